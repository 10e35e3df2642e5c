"""Calls that are right, for `mistakes.py` to spoil: data sets, runs, benchmarks."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import Saliency
from PIL import Image

import captum_canonical as cc
from captum_canonical import adapters
from mistakes import (
    Recipe,
    canonical_face,
    choice,
    device,
    images,
    in_path,
    integer,
    labels,
    meshes,
    network,
    number,
    of,
    out_path,
    positive,
    target,
    texts,
)
from mistakes_in_maps import FACE, MAPS, MESH, NET, PHOTOS, method

_fills = of(
    {
        "unknown": ["typo"],
        "empty": [],
        "None": [None],
        "class of another kind": [NET],
        "number": 3,
        "None instead": None,
    }
)


fractions = of(
    {"beyond": [0.0, 2.0], "falling": [1.0, 0.0], "empty": [], "text": "all", "NaN": [float("nan"), 1.0], "number": 0.5}
)


_either = of(
    {
        "text": "16",
        "zero": 0,
        "zero side": (0, 16),
        "three": (3, 16, 16),
        "float": 16.5,
        "None": None,
        "negative": -1,
        "True": True,
    }
)


def runs(folder: Path) -> list[Recipe]:
    photos = folder / "photos"
    photos.mkdir()
    for name in "abc":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)).save(photos / f"{name}.png")
    table = folder / "labels.csv"
    table.write_text("path,age,race\na.png,1,x\nb.png,2,y\nc.png,3,x\n")
    numbers = itertools.count()

    def explain(**call: Any) -> Any:
        fresh = {"out": folder / f"run-{next(numbers)}", "show_progress": False, "num_points": 6, "patch_size": 7}
        return cc.explain_dataset(**(fresh | call))

    def dataset(**call: Any) -> Any:
        data = cc.AlignedFaces(**({"aligner": adapters.PixelGrid(2, 2), "size": 16, "crop": None} | call))
        return data[0].image

    good = {
        "forward_func": NET,
        "data": (PHOTOS, MESH),
        "canonical_face": FACE,
        "batch_size": 2,
        "seed": 0,
        "target": 1,
    }
    data: dict[str, Any] = {"images": PHOTOS, "one image": PHOTOS[0], "numpy": PHOTOS.numpy(), "None": None}
    data |= {"path": str(photos), "no mesh": (PHOTOS,), "exchanged": (MESH, PHOTOS), "list of images": list(PHOTOS)}
    data |= {"loader": torch.utils.data.DataLoader(list(PHOTOS)), "vertices": (PHOTOS, MESH.vertices), "empty": []}
    data |= {"too few targets": (PHOTOS, MESH, torch.tensor([1])), "generator": (x for x in ()), "empty tuple": ()}
    bench = {"forward_func": NET, "data": PHOTOS, "methods": {"s": Saliency(NET)}, "target": 1, "faces": MESH}
    bench |= {"canonical_face": FACE, "fills": ["zero"], "folds": 2, "budget": 0.1, "sign": "positive", "batch_size": 4}
    bench |= {
        "resamples": 9,
        "permutations": 9,
        "seed": 0,
        "controls": False,
        "identities": ["a", "b"],
        "fractions": [0.0, 1.0],
    }

    def benchmark(**call: Any) -> Any:
        return [row.per_image for row in cc.benchmark(**call).rows]

    methods = {
        "method itself": Saliency(NET),
        "class": {"s": Saliency},
        "network": {"s": NET},
        "empty": {},
        "None": None,
    }
    methods |= {"list": [Saliency(NET)], "texts": {"s": "saliency"}, "a control": {"uniform": Saliency(NET)}}
    methods |= {"too many": {"s": (Saliency(NET), {}, 3)}, "arguments": {"s": (Saliency(NET), {"target": 1})}}
    return [
        Recipe(
            "explain_dataset",
            explain,
            good,
            {"forward_func": network, "data": of(data), "canonical_face": canonical_face, "batch_size": positive}
            | {
                "seed": integer,
                "target": target,
                "out": out_path,
                "device": device,
                "method": method,
                "inference": choice,
            }
            | {"num_points": positive, "patch_size": number, "num_workers": integer, "until": choice},
            ("method=None", "method=canonical one"),
        ),
        Recipe(
            "AlignedFaces",
            dataset,
            {
                "source": photos,
                "size": 16,
                "margin": 0.2,
                "channels": "RGB",
                "max_pixels": 10**6,
                "mean": 0.5,
                "std": 0.5,
            },
            {"source": of({"missing": "no", "None": None, "number": 3, "empty": [], "images": PHOTOS, "bytes": b"a"})}
            | {"size": _either, "margin": number, "channels": choice, "max_pixels": positive, "mean": number}
            | {"classes": of({"text": "ab", "equal": ["a", "a"], "zero": 0, "half": 2.5, "empty": []})}
            | {"crop": of({"word": "eyes", "three": (0, 0, 9), "turned": (9, 0, 0, 9), "number": 3, "text": "0,0,9,9"})}
            | {"aligner": of({"class": adapters.FaceMeshAligner, "text": "mediapipe", "mesh": MESH, "number": 3})}
            | {"cache": of({"a file": photos / "a.png", "number": 3}), "subfolder": choice, "fill": choice},
            ("mean=-1", "mean=[0.5]", "fill=1"),
        ),
        Recipe(
            "read_labels",
            lambda **call: list(cc.read_labels(**call)),
            {"source": table, "target": "age", "group": "race", "format": "table", "where": None},
            {"source": in_path, "target": choice, "group": choice, "format": choice}
            | {"where": of({"text": "age", "unknown": {"eyes": 1}, "number": 3}), "root": of({"number": 3})},
            ("group=['race']",),
        ),
        Recipe(
            "load_network",
            lambda **call: cc.load_network(**call).network(PHOTOS),
            {"model": lambda: copy.deepcopy(NET), "weights": None, "device": "cpu", "dtype": "float32", "size": None},
            {
                "model": of(
                    {"no module": "nowhere:net", "no file": "net.pt", "a photograph": photos / "a.png"}
                    | {"None": None, "number": 3, "tensor": PHOTOS, "makes nothing": lambda: None, "empty": ""}
                ),
                "weights": of({"no file": "no.safetensors", "a photograph": photos / "a.png", "number": 3}),
                "device": device,
                "dtype": of({"unknown": "float7", "whole numbers": "int64", "number": 32}),
            },
        ),
        Recipe(
            "benchmark",
            benchmark,
            bench,
            {"forward_func": network, "data": images, "methods": of(methods), "target": target, "faces": meshes}
            | {"canonical_face": canonical_face, "fills": _fills, "folds": positive, "budget": number, "sign": choice}
            | {"batch_size": positive, "resamples": positive, "permutations": positive, "seed": integer}
            | {"identities": labels, "fractions": fractions, "spaces": texts},
            ("spaces=empty",),
        ),
        Recipe(
            "model_randomization",
            lambda **call: cc.model_randomization(**call).magnitude,
            {"method": Saliency(NET), "inputs": PHOTOS, "target": 1, "order": "top_down", "seeds": (0,)},
            {"method": of({"class": Saliency, "text": "saliency", "None": None, "number": 3}), "inputs": images}
            | {
                "order": choice,
                "seeds": of({"number": 3, "equal": (0, 0), "empty": (), "text": "0", "halves": (0.5,)}),
            }
            | {"layers": texts, "reinitialise": choice, "area": of({"maps": MAPS, "number": 1, "text": "face"})},
        ),
    ]
