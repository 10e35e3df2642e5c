"""Calls that are right, for `mistakes.py` to spoil: attributions, and what is made of their maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradCam, Saliency
from torch import Tensor

import captum_canonical as cc
from face_tools import mesh_of, noise
from mistakes import (
    Mistake,
    Recipe,
    canonical_face,
    choice,
    images,
    in_path,
    integer,
    labels,
    layer,
    maps,
    meshes,
    network,
    number,
    of,
    out_path,
    positive,
    result,
    target,
    texts,
)
from small_networks import SmallNet

SIDE = 32


FACE = cc.CanonicalFace.default(SIDE)


NET = SmallNet(SIDE, (3,))


PHOTOS = noise(2, SIDE)


MESH = mesh_of(FACE, 2)


MAPS = torch.rand(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) - 0.3


FEW: dict[str, Any] = {"num_points": 6, "patch_size": 7}


PEOPLE = 12


MANY = torch.randn(PEOPLE, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) + 0.5


def run() -> cc.ModelSaliency:
    group = ["a", "b"] * (PEOPLE // 2)
    columns = {"score": list(np.linspace(0, 1, PEOPLE)), "label": [0, 1] * (PEOPLE // 2)}
    return cc.ModelSaliency.from_maps(
        MANY, None, FACE, list(range(PEOPLE)), group=group, predicted=[1] * PEOPLE, **columns
    )


def attributions() -> list[Recipe]:
    shared: dict[str, Any] = {"inputs": images, "target": target}

    def occlusion(forward_func: Any, faces: Any, face: Any, inference: Any = "dense", **call: Any) -> Tensor:
        return cc.CanonicalOcclusion(forward_func, faces, face, inference).attribute(**(FEW | call))

    def cam(method: Any) -> Any:
        return lambda forward_func, layer, **call: method(forward_func, layer).attribute(**call)

    def projected(method: Any, faces: Any, face: Any, **call: Any) -> Tensor:
        return cc.CanonicalProjector(method, faces, face).attribute(**call)

    def project(values: Any, faces: Any, reduce: Any = "sum") -> Tensor:
        return cc.CanonicalProjector(None, canonical_face=FACE).project(values, faces, reduce=reduce)

    def reproject(values: Any, faces: Any) -> Tensor:
        return cc.CanonicalProjector(None, canonical_face=FACE).reproject(values, faces)

    def refine(**call: Any) -> Any:
        return list(cc.CanonicalOcclusion(NET, MESH, FACE, "dense").refine(PHOTOS, 1, **({"num_points": 6} | call)))

    good: dict[str, Any] = {"inputs": PHOTOS, "target": 1}
    cams = [
        Recipe(
            method.__name__,
            cam(method),
            good | {"forward_func": NET, "layer": NET.relu0},
            shared | {"forward_func": network, "layer": layer},
        )
        for method in (cc.LayerGradCamPlusPlus, cc.GuidedGradCamPlusPlus, cc.LayerScoreCam)
    ]
    weighting = Recipe(
        "LayerScoreCam.weighting",
        lambda weighting, perturbations_per_eval, baselines: cc.LayerScoreCam(NET, "relu0").attribute(
            PHOTOS, 1, weighting=weighting, perturbations_per_eval=perturbations_per_eval, baselines=baselines
        ),
        {"weighting": "increase", "perturbations_per_eval": 2, "baselines": 0.0},
        {"weighting": choice, "perturbations_per_eval": positive, "baselines": _baselines},
    )
    return [
        Recipe(
            "CanonicalOcclusion",
            occlusion,
            good
            | {"forward_func": NET, "faces": MESH, "face": FACE, "inference": "dense", "space": "canonical"}
            | {
                "baselines": 0.0,
                "patch_size": 7.0,
                "num_points": 6,
                "perturbations_per_eval": 3,
                "canonical_patch_size": 7,
            },
            shared
            | {"forward_func": network, "faces": meshes, "face": canonical_face, "inference": choice, "space": choice}
            | {
                "patch_size": number,
                "num_points": positive,
                "perturbations_per_eval": positive,
                "baselines": _baselines,
            }
            | {"canonical_patch_size": number},
        ),
        Recipe(
            "CanonicalOcclusion.refine",
            refine,
            {"tolerance": 0.1, "first_points": 4},
            {"tolerance": number, "first_points": positive},
        ),
        Recipe(
            "CanonicalProjector",
            projected,
            good | {"method": Saliency(NET), "faces": MESH, "face": FACE, "reduce": "sum"},
            {"inputs": images, "method": method, "faces": meshes, "face": canonical_face, "reduce": choice},
        ),
        Recipe(
            "CanonicalProjector of a layer",
            lambda inputs, faces: cc.CanonicalProjector(LayerGradCam(NET, NET.relu0), faces, FACE).attribute(
                inputs, target=1
            ),
            {"inputs": PHOTOS, "faces": MESH},
            {"inputs": images, "faces": meshes},
        ),
        Recipe(
            "Layout",
            lambda layout: cc.LayerGradCamPlusPlus(NET, NET.relu0).attribute(PHOTOS, 1, layout=layout),
            {"layout": "channels_first"},
            {"layout": _layouts},
        ),
        Recipe(
            "last_spatial_layer",
            lambda model, inputs: cc.last_spatial_layer(model, inputs),
            {"model": NET, "inputs": PHOTOS},
            {"model": network, "inputs": images},
        ),
        Recipe(
            "project",
            project,
            {"values": MAPS, "faces": MESH, "reduce": "sum"},
            {"values": maps, "faces": meshes},
            ("values=three channels", "values=other size", "faces=other size"),
        ),
        Recipe(
            "reproject",
            reproject,
            {"values": MAPS, "faces": MESH},
            {"values": maps, "faces": meshes},
            ("values=three channels", "faces=other size"),
        ),
        *cams,
        weighting,
    ]


def _layouts(_: Any) -> list[Mistake]:
    values: dict[str, Any] = {"number": 1, "tuple": (14, 14), "grid": "14x14", "kind": "NCHW", "class": cc.Layout}
    values |= {"channels of tokens": "channels_last:7x7", "bare": "tokens:14", "of another": cc.Layout("tokens")}
    return [Mistake(name, value) for name, value in values.items()]


def _baselines(_: Any) -> list[Mistake]:
    values: dict[str, Any] = {"text": "mean", "two numbers": [0, 1], "other shape": torch.zeros(3, 5), "dict": {}}
    numpy = Mistake("numpy image", np.zeros((1, 3, 1, 1), np.float32), torch.zeros(1, 3, 1, 1))
    return [Mistake(name, value) for name, value in values.items()] + [numpy]


def method(good: Any) -> list[Mistake]:
    values: dict[str, Any] = {"class": Saliency, "network": NET, "text": "saliency", "list": [good], "None": None}
    canonical = Mistake("canonical one", cc.CanonicalOcclusion(NET, MESH, FACE))
    return [Mistake(name, value) for name, value in values.items()] + [canonical]


_names = of(
    {
        "none": (),
        "one": ("a",),
        "text": "ab",
        "equal": ("a", "a"),
        "numbers": (1, 2),
        "None": None,
        "three": ("a", "b", "c"),
    }
)


_match = of({"empty": [], "unknown": "age", "texts": "group", "number": 3, "None inside": [None], "all": True})


_clusters = of({"word": "big", "number": 2, "None": None, "list": ["mass"]})


_by = of(
    {
        "unknown": "age",
        "empty": [],
        "one too few": [1] * (PEOPLE - 1),
        "number": 3,
        "None": None,
        "crossed with unknown": ["group", "age"],
    }
)


_bins = of(
    {
        "of texts": 2,
        "zero": 0,
        "text": "3",
        "falling": [1, 0],
        "one edge": [1],
        "half": 2.5,
        "texts": ["a", "b"],
        "negative": -1,
        "True": True,
    }
)


image_size = of(
    {"text": "16", "zero": (0, 16), "three": (3, 16, 16), "floats": (16.5, 16.0), "None": None, "negative": (-1, 16)}
)


def results() -> list[Recipe]:
    given = run()
    sides = given.strata("group")

    def compare(**call: Any) -> Any:
        return cc.compare_groups(**({"permutations": 19} | call)).different_regions

    tests: dict[str, Any] = {"permutations": 19, "alpha": 0.05, "seed": 0, "share": 0.5}
    kinds: dict[str, Any] = {"permutations": positive, "alpha": number, "seed": integer, "share": number}
    return [
        Recipe(
            "region_table",
            lambda result, level, weights: cc.region_table(result, level, weights=weights).rows,
            {"result": given, "level": 0.9, "weights": "people"},
            {"result": result, "level": number, "weights": choice},
        ),
        Recipe(
            "compare_groups",
            compare,
            {"a": sides["a"], "b": sides["b"], "names": ("a", "b"), "caliper": 5.0, "match": "confidence", "level": 0.9}
            | tests,
            {"a": result, "b": result, "names": _names, "caliper": number, "match": _match, "level": number} | kinds,
        ),
        Recipe(
            "compare_models",
            lambda **call: cc.compare_models(**({"permutations": 19} | call)).different_regions,
            {"a": given, "b": run(), "names": ("a", "b")} | tests,
            {"a": result, "names": _names} | kinds,
        ),
        Recipe("significance", given.significance, tests | {"clusters": "mass"}, kinds | {"clusters": _clusters}),
        Recipe("strata", given.strata, {"by": "group", "bins": None}, {"by": _by, "bins": _bins}),
        Recipe("concentration", given.concentration, {"level": 0.9}, {"level": number}),
        Recipe("weighted", given.weighted, {"weights": "people"}, {"weights": choice}),
        Recipe(
            "from_maps",
            cc.ModelSaliency.from_maps,
            {
                "maps": MAPS,
                "coverage": torch.ones_like(MAPS),
                "canonical_face": FACE,
                "identities": [0, 1],
                "group": ["a", "b"],
            },
            {"maps": maps, "canonical_face": canonical_face, "identities": labels, "group": labels},
        ),
        Recipe("ModelSaliency.open", cc.ModelSaliency.open, {"path": "/no"}, {"path": in_path}),
        Recipe("ModelSaliency.load", cc.ModelSaliency.load, {"path": "/no"}, {"path": in_path}),
        Recipe("BenchmarkResult.from_json", cc.BenchmarkResult.from_json, {"source": "/no"}, {"source": in_path}),
        Recipe("CanonicalFace.load", cc.CanonicalFace.load, {"path": "/no"}, {"path": in_path}),
        Recipe("save", given.save, {"path": "/no"}, {"path": out_path}),
        Recipe("CanonicalFace.default", cc.CanonicalFace.default, {"size": 16}, {"size": positive}),
        Recipe("CanonicalFace.resized", FACE.resized, {"size": (16, 16)}, {"size": image_size}),
        Recipe("region_mask", FACE.region_mask, {"name": "chin"}, {"name": choice}),
        Recipe(
            "CanonicalModelSaliency",
            lambda face, maps: _streamed(face, maps),
            {"face": FACE, "maps": MAPS},
            {"face": canonical_face, "maps": maps},
            ("maps=empty",),
        ),
        Recipe(
            "report",
            cc.report,
            {"result": given, "path": "/no", "gallery": 3, "photos": False, "view_3d": False},
            {"result": result, "path": out_path, "gallery": positive, "strata": texts, "comparisons": texts},
            ("strata=empty", "comparisons=empty"),
        ),
    ]


def _streamed(face: Any, values: Any) -> Any:
    metric = cc.CanonicalModelSaliency(face)
    metric.update(values)
    return metric.compute()
