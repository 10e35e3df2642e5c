"""Calls that are right, for `mistakes.py` to spoil: masks, measures, figures, aligners, confidences, statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

import captum_canonical as cc
from captum_canonical import adapters, confidence, faithfulness, statistics, visualization
from captum_canonical.faces.images import crop_to_face
from mistakes import (
    Recipe,
    canonical_face,
    choice,
    device,
    images,
    integer,
    labels,
    maps,
    meshes,
    network,
    number,
    of,
    positive,
    scores,
    target,
)
from mistakes_in_maps import FACE, MANY, MAPS, MESH, NET, PHOTOS, SIDE, image_size, run
from mistakes_in_runs import fractions

SCORES, EXPLAINED = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0.5, 0.9, 0.4, 0.1])


_aligned = of(
    {
        "path": "photo.jpg",
        "None": None,
        "grey": PHOTOS[:, 0],
        "channels last": PHOTOS.permute(0, 2, 3, 1),
        "beyond 1": PHOTOS * 255,
        "empty list": [],
        "texts": ["a.jpg"],
        "halves": [np.zeros((8, 8, 3))],
        "NaN": PHOTOS * torch.nan,
    }
)


def recipes() -> list[Recipe]:
    masks = faithfulness.explanation_masks(MAPS)
    area = of({"wrong size": torch.ones(2, 1, 4, 4, dtype=torch.bool), "text": "face", "numbers": 3})
    logits: Any = lambda x: NET.features(x)[:, :4]  # noqa: E731
    gallery = {"encoder": logits, "gallery_features": torch.randn(3, 4), "gallery_labels": ["a", "b", "c"]}
    features = of(
        {
            "vector": torch.randn(4),
            "empty": torch.zeros(0, 4),
            "None": None,
            "text": "gallery",
            "NaN": torch.full((3, 4), torch.nan),
        }
    )

    def verified(encoder: Any, threshold: Any, **call: Any) -> Tensor:
        return cc.VerificationConfidence(encoder, threshold)(photo_a=PHOTOS, **call)

    pair = {"clean": SCORES, "explained": EXPLAINED, "explanation": "negative"}
    drawn = {"saliency": MAPS[:1], "canonical_face": FACE, "vmax": 1.0, "unit": "x"}
    grid = {"rows": 2, "cols": 3}
    aligner = {
        "face": "largest",
        "on_missing": "skip",
        "batch_size": 2,
        "min_score": 0.5,
        "max_faces": 3,
        "device": "cpu",
    }
    values = {"values": torch.rand(8, dtype=torch.float64), "units": torch.arange(8) // 2, "level": 0.9, "resamples": 9}
    return [
        Recipe(
            "explanation_masks",
            faithfulness.explanation_masks,
            {"maps": MAPS, "budget": 0.2, "sign": "abs", "mass": "top"},
            {"maps": maps, "area": area, "budget": number, "sign": choice, "mass": choice},
            ("maps=other size",),
        ),
        Recipe(
            "explanation_images",
            faithfulness.explanation_images,
            {"images": PHOTOS, "masks": masks, "explanation": "positive"},
            {
                "images": images,
                "explanation": choice,
                "fill": choice,
                "masks": of(
                    {
                        "None": None,
                        "maps of another size": MAPS[..., :-3],
                        "numpy": MAPS.numpy(),
                        "negative": -MAPS.abs(),
                    }
                ),
            },
            ("fill=1",),
        ),
        Recipe(
            "score_explanations",
            faithfulness.score_explanations,
            {"forward_func": NET, "inputs": PHOTOS, "masks": masks, "target": 1, "batch_size": 2, "clean_scores": None},
            {
                "forward_func": network,
                "inputs": images,
                "target": target,
                "batch_size": positive,
                "masks": of({"maps": MAPS, "None": None, "list": [masks]}),
                "clean_scores": labels,
            },
        ),
        Recipe(
            "removal_curves",
            faithfulness.removal_curves,
            {
                "forward_func": NET,
                "inputs": PHOTOS,
                "maps": MAPS,
                "target": 1,
                "space": "image",
                "fractions": [0.0, 1.0],
                "batch_size": 4,
                "clean_scores": None,
            },
            {
                "forward_func": network,
                "inputs": images,
                "maps": maps,
                "target": target,
                "space": choice,
                "fractions": fractions,
                "fill": choice,
                "area": area,
                "batch_size": positive,
                "clean_scores": labels,
            },
            ("fill=1",),
        ),
        *(
            Recipe(
                name, getattr(faithfulness, name), pair, {"clean": scores, "explained": scores, "explanation": choice}
            )
            for name in ("average_drop", "increase_rate", "mean_drop")
        ),
        Recipe(
            "win_rates",
            faithfulness.win_rates,
            {"explained": {"a": SCORES, "b": EXPLAINED}, "tolerance": 1e-6, "explanation": "negative"},
            {
                "explained": of(
                    {
                        "tensor": SCORES,
                        "one": {"a": SCORES},
                        "empty": {},
                        "lengths": {"a": SCORES, "b": SCORES[:2]},
                        "None": None,
                    }
                ),
                "explanation": choice,
                "tolerance": number,
            },
            ("explained=one",),
        ),
        Recipe(
            "show_canonical",
            visualization.show_canonical,
            drawn,
            {"saliency": maps, "canonical_face": canonical_face, "vmax": number},
            ("saliency=one map", "saliency=NaN"),
        ),
        Recipe(
            "show_on_photo",
            visualization.show_on_photo,
            {"saliency": MAPS[:1], "photo": PHOTOS[0], "vmax": 1.0},
            {
                "saliency": maps,
                "photo": of(
                    {"path": "photo.jpg", "None": None, "two": PHOTOS, "bytes beyond": PHOTOS[0] * 255, "number": 1}
                ),
                "vmax": number,
            },
            ("saliency=one map", "saliency=NaN", "saliency=other size"),
        ),
        Recipe(
            "montage",
            visualization.montage,
            {"maps": {"a": MAPS}, "photos": PHOTOS, "row_labels": ["x", "y"]},
            {
                "maps": of({"tensor": MAPS, "empty": {}, "None": None, "one row": {"a": MAPS[:1]}, "list": [MAPS]}),
                "photos": of({"path": "x", "three": torch.cat([PHOTOS, PHOTOS]), "number": 2}),
                "row_labels": labels,
            },
        ),
        Recipe(
            "show_strata",
            visualization.show_strata,
            {"strata": run().strata("group"), "columns": 2},
            {"strata": of({"result": run(), "None": None, "list": [run()], "empty": {}}), "columns": positive},
        ),
        Recipe(
            "FaceMesh",
            cc.FaceMesh,
            {"vertices": MESH.vertices, "image_size": (SIDE, SIDE)},
            {
                "vertices": of(
                    {
                        "two dimensions": MESH.vertices[0],
                        "x and y": MESH.vertices[..., :2],
                        "integers": MESH.vertices.long(),
                        "None": None,
                        "path": "mesh.mat",
                        "NaN": MESH.vertices * torch.nan,
                        "mesh": MESH,
                    }
                ),
                "image_size": image_size,
            },
        ),
        *(
            Recipe(
                f"FaceMesh.{name}",
                getattr(MESH, name),
                {"image_size": (16, 16)} if name == "resized" else {"device": "cpu"},
                {"image_size": image_size} if name == "resized" else {"device": device},
            )
            for name in ("resized", "to")
        ),
        Recipe("PixelGrid", adapters.PixelGrid, grid, {"rows": positive, "cols": positive}),
        Recipe(
            "FaceMeshAligner",
            lambda **call: adapters.FaceMeshAligner(**call)(PHOTOS).missing,
            aligner,
            {
                "face": choice,
                "on_missing": choice,
                "batch_size": positive,
                "min_score": number,
                "max_faces": positive,
                "device": device,
            },
        ),
        Recipe(
            "FaceMeshAligner()",
            adapters.FaceMeshAligner(on_missing="skip"),
            {"images": PHOTOS, "names": ["a", "b"]},
            {"images": _aligned, "names": labels},
        ),
        Recipe(
            "KeypointAligner",
            lambda points: adapters.KeypointAligner()(PHOTOS, points=points),
            {"points": 20 * torch.rand(2, 5, 2)},
            {
                "points": of(
                    {
                        "four": torch.rand(2, 4, 2),
                        "one too few": torch.rand(1, 5, 2),
                        "None": None,
                        "text": "eyes",
                        "equal": torch.zeros(2, 5, 2),
                    }
                )
            },
        ),
        Recipe(
            "ClassConfidence",
            lambda model, link: cc.ClassConfidence(model, link)(PHOTOS),
            {"model": NET, "link": "log_odds"},
            {"model": network, "link": choice},
        ),
        Recipe(
            "a head of ClassConfidence",
            lambda model, output, classes: cc.ClassConfidence(model, "probability", output, classes)(PHOTOS),
            {"model": logits, "output": "b", "classes": {"a": 1, "b": ["x", "y", "z"]}},
            {
                "model": network,
                "output": of(
                    {"unknown": "c", "None": None, "place": 1, "columns": slice(0, 2), "float": 1.5, "empty": ""}
                ),
                "classes": of(
                    {
                        "one too few": {"a": 1, "b": 2},
                        "without the head": {"a": 4},
                        "the same twice": {"a": 1, "b": ["x", "x", "z"]},
                        "none": {"a": 4, "b": 0},
                        "negative": {"a": 5, "b": -1},
                        "texts": {"a": 1, "b": "xyz"},
                        "True": {"a": True, "b": 3},
                        "float": {"a": 1.0, "b": 3},
                        "names only": ["x", "y", "z"],
                        "number": 4,
                        "None": None,
                    }
                ),
            },
        ),
        Recipe(
            "VerificationConfidence",
            verified,
            {"encoder": logits, "threshold": 0.1, "photo_b": PHOTOS.flip(0), "same": True},
            {
                "encoder": network,
                "threshold": number,
                "photo_b": images,
                "same": of({"text": "yes", "too many": torch.ones(3), "None": None}),
            },
            ("threshold=-1", "photo_b=other size"),
        ),
        Recipe(
            "ZeroShotConfidence",
            lambda **call: cc.ZeroShotConfidence(**call)(PHOTOS),
            gallery,
            {"encoder": network, "gallery_features": features, "gallery_labels": labels},
        ),
        Recipe(
            "BinnedConfidence",
            lambda model, bins: cc.BinnedConfidence(model, bins)(PHOTOS),
            {"model": lambda x: NET(x)[:, :1], "bins": (0.0, 0.5, 1.0)},
            {
                "model": network,
                "bins": of(
                    {"number": 3, "falling": (1.0, 0.0), "one": (1.0,), "text": "0,1", "NaN": (0.0, float("nan"))}
                ),
            },
        ),
        Recipe(
            "RegressionConfidence",
            lambda model, deviation, value: cc.RegressionConfidence(model, deviation)(PHOTOS, value),
            {"model": lambda x: NET(x)[:, 0], "deviation": "absolute", "value": 0.5},
            {
                "deviation": choice,
                "value": of({"text": "30", "too many": torch.rand(3), "None": None, "list": [1.0]}),
            },
        ),
        Recipe(
            "equal_error_threshold",
            confidence.equal_error_threshold,
            {"similarity": SCORES, "same": torch.tensor([True, True, False, False])},
            {
                "similarity": scores,
                "same": of(
                    {
                        "all the same": torch.ones(4, dtype=torch.bool),
                        "one too few": torch.ones(3, dtype=torch.bool),
                        "texts": ["y"] * 4,
                        "None": None,
                    }
                ),
            },
        ),
        *(
            Recipe(
                name,
                getattr(statistics, name),
                values,
                {
                    "units": of({"one too few": torch.arange(7), "text": "a", "None": None, "halves": torch.rand(8)}),
                    "level": number,
                    "resamples": positive,
                },
            )
            for name in ("bootstrap_interval", "interval_of_mean")
        ),
        Recipe(
            "holm",
            statistics.holm,
            {"p_values": SCORES},
            {
                "p_values": of(
                    {"beyond": torch.tensor([2.0]), "NaN": torch.tensor([float("nan")]), "text": "p", "None": None}
                )
            },
        ),
        Recipe(
            "split_half_correlation",
            statistics.split_half_correlation,
            {"maps": MANY, "splits": 3, "seed": 0},
            {"maps": maps, "splits": positive, "seed": integer, "identities": labels},
            ("maps=channels last", "maps=three channels", "maps=other size", "maps=one map"),
        ),
        Recipe("SplitHalf", cc.SplitHalf, {"correlation": 0.9}, {"correlation": number}),
        Recipe("StandardError", cc.StandardError, {"limit": 0.1}, {"limit": number}),
        Recipe(
            "crop_to_face",
            crop_to_face,
            {"image": np.zeros((SIDE, SIDE, 3), np.uint8), "mesh": MESH[0], "margin": 0.2, "size": (16, 16)},
            {"mesh": meshes, "margin": number, "size": image_size},
            ("mesh=other topology", "mesh=fewer vertices", "mesh=fractions", "mesh=x and y exchanged"),
        ),
    ]
