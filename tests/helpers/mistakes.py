"""Plausible mistakes in the arguments of public functions, and what they end in.

A recipe is a call that is right, and of which kind each of its arguments is. A kind has mistakes: wrong shapes, types
and devices, paths in place of objects, words in place of numbers, None, what is empty or out of range. A mistake may
have a meaning, another value that a package may well take it for: a result must then be the one of that value.
"""

from __future__ import annotations

import dataclasses
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import captum_canonical as cc

NOTHING, VISIBLE = object(), object()
"""No meaning; and NaN that comes out as it went in."""


class Mistake(NamedTuple):
    """A value in place of a right one, and the right value that it may be taken for, if there is one."""

    name: str
    value: Any
    means: Any = NOTHING


class Recipe(NamedTuple):
    """A call that is right, and the kinds of its arguments."""

    name: str
    call: Callable[..., Any]
    arguments: Mapping[str, Any]
    kinds: Mapping[str, Callable[[Any], list[Mistake]]]
    documented: tuple[str, ...] = ()
    """"argument=mistake" that are no mistakes here, as the documentation says."""


class Case(NamedTuple):
    recipe: Recipe
    argument: str
    mistake: Mistake

    def __str__(self) -> str:
        return f"{self.recipe.name}({self.argument}={self.mistake.name})"


def cases_of(recipes: Sequence[Recipe]) -> Iterator[Case]:
    """All mistakes, one argument at a time."""
    for recipe in recipes:
        for argument, kind in recipe.kinds.items():
            yield from (Case(recipe, argument, mistake) for mistake in kind(recipe.arguments.get(argument)))


# ------------------------------------------------------------------------------------------------------------ outcomes
OWN, HOST, RIGHT = "own error", "host's error", "right result"
BAD = ("other error", "silent nonsense")


class Outcome(NamedTuple):
    kind: str
    says: str
    names_argument: bool = False


def outcome_of(case: Case) -> Outcome:
    """What a call with the mistake ends in."""
    right = dict(case.recipe.arguments)
    try:
        result = _run(case.recipe.call, right | {case.argument: case.mistake.value})
    except cc.CanonicalError as error:
        return Outcome(OWN, str(error), case.argument in str(error))
    except Exception as error:
        kind = HOST if _of_a_host(error) else "other error"
        return Outcome(kind, f"{type(error).__name__}: {error} (at {_place(error)})")
    if f"{case.argument}={case.mistake.name}" in case.recipe.documented or (
        case.mistake.means is VISIBLE and _has_nan(result)
    ):
        return Outcome(RIGHT, "")
    if case.mistake.means is NOTHING or case.mistake.means is VISIBLE:
        return Outcome("silent nonsense", f"{type(result).__name__}")
    try:
        same(result, _run(case.recipe.call, right | {case.argument: case.mistake.means}))
    except Exception as error:
        return Outcome("silent nonsense", f"another result than with {case.mistake.means!r:.40}: {error!s:.80}")
    return Outcome(RIGHT, "")


def _run(call: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(**arguments)


def _has_nan(result: Any) -> bool:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return any(isinstance(part, Tensor) and bool(part.isnan().any()) for part in parts)


def _of_a_host(error: BaseException) -> bool:
    """An error of the user's network or of Captum's own checks, which come first there."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [frame.filename for frame in frames]
    own = max(
        (place for place, name in enumerate(files) if "captum_canonical" in name and "/tests/" not in name), default=-1
    )
    later = files[own + 1 :]
    network = any("small_networks" in name for name in files)
    checked = isinstance(error, AssertionError) and bool(str(error)) and any("/captum/" in name for name in later)
    return network or checked


def _place(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "captum_canonical/" in frame.filename]
    return f"{frames[-1].filename.rpartition('captum_canonical/')[2]}:{frames[-1].lineno}" if frames else "?"


def same(one: Any, other: Any) -> None:
    """Raises AssertionError unless two results are equal up to rounding."""
    if isinstance(one, (Tensor, np.ndarray)):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), equal_nan=True, check_dtype=False)
        return
    if isinstance(one, (Number, str, type(None))):
        assert one == other or one != one
        return
    first, second = _parts(one), _parts(other)
    assert len(first) == len(second)
    for left, right in zip(first, second, strict=True):
        same(left, right)


def _parts(value: Any) -> list[Any]:
    """What a result consists of; of others, such as figures, only the type is compared."""
    if isinstance(value, Mapping):
        return [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, cc.ModelSaliency):
        return [value.mean, value.variance, value.n]
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return [type(value).__name__]


# --------------------------------------------------------------------------------------------------------------- kinds
def of(values: Mapping[str, Any]) -> Callable[[Any], list[Mistake]]:
    """A kind of these mistakes by name."""
    return lambda _: [Mistake(name, value) for name, value in values.items()]


def images(x: Tensor) -> list[Mistake]:
    return [
        Mistake("channels last", x.permute(0, 2, 3, 1)),
        Mistake("one image", x[0]),
        Mistake("numpy", x.numpy(), x),
        Mistake("list", list(x), x),
        Mistake("path", "photo.jpg"),
        Mistake("None", None),
        Mistake("empty", x[:0]),
        Mistake("uint8", (x * 255).byte(), (x * 255).byte().float()),
        Mistake("DataLoader", DataLoader(list(x))),
        Mistake("NaN", x * torch.nan, VISIBLE),
        Mistake("other device", x.to("meta")),
        Mistake("other size", x[..., :-3]),
    ]


def target(t: Any) -> list[Mistake]:
    return [
        *(Mistake(repr(value), value) for value in ("woman", "1", 1.5, 99, -99, [], ["woman", "man"], True, {"a": 1})),
        Mistake("float tensor", torch.tensor([1.0, 0.0])),
        Mistake("long tensor of another length", torch.tensor([1, 0, 1])),
        Mistake("out of range", torch.tensor([9, 9])),
        Mistake("numpy integer", np.int64(1), 1),
        Mistake("numpy array", np.array([1, 0]), [1, 0]),
        Mistake("tuple too long", (0, 1)),
    ]


def integer(n: Any) -> list[Mistake]:
    return [
        *(Mistake(repr(value), value) for value in ("3", 2.5, -1, True, float("nan"), [3], "three")),
        Mistake("numpy integer", np.int64(n or 2), int(n or 2)),
        Mistake("tensor", torch.tensor(n or 2), int(n or 2)),
        Mistake("whole float", float(n or 2), int(n or 2)),
    ]


def positive(n: Any) -> list[Mistake]:
    return [*integer(n), Mistake("0", 0)]


def number(v: Any) -> list[Mistake]:
    return [
        *(Mistake(repr(value), value) for value in ("0.5", float("nan"), -1, [0.5], "half", True, {})),
        Mistake("numpy float", np.float64(v or 1), float(v or 1)),
        Mistake("tensor", torch.tensor(float(v or 1)), float(v or 1)),
    ]


def choice(c: str | None) -> list[Mistake]:
    values = ("typo", 1, "", [c or "a"], (c or "a").upper() + "!")
    return [Mistake(repr(value), value) for value in values]


def canonical_face(face: cc.CanonicalFace) -> list[Mistake]:
    return [
        Mistake("path that is missing", "face.npz"),
        Mistake("class", cc.CanonicalFace),
        Mistake("image", face.image),
        Mistake("mesh", cc.FaceMesh(face.vertices[None], image_size=face.size)),
        Mistake("size", 32),
        Mistake("list", [face]),
    ]


def meshes(mesh: cc.FaceMesh) -> list[Mistake]:
    vertices = mesh.vertices
    return [
        Mistake("vertices", vertices),
        Mistake("numpy vertices", vertices.numpy()),
        Mistake("path", "mesh.mat"),
        Mistake("list", [mesh], mesh),
        Mistake("list of meshes", [mesh[0], mesh[-1], mesh[0]]),
        Mistake("empty", mesh[torch.zeros(len(mesh), dtype=torch.bool)]),
        Mistake("one too few", mesh[:1].repeat_interleave(len(mesh) + 1)),
        Mistake("other size", mesh.resized((40, 40))),
        Mistake("other topology", dataclasses.replace(mesh, topology="other")),
        Mistake("fewer vertices", cc.FaceMesh(vertices[:, :99], image_size=mesh.image_size)),
        Mistake("fractions", dataclasses.replace(mesh, vertices=vertices / 32)),
        Mistake("x and y exchanged", dataclasses.replace(mesh, vertices=vertices[..., [1, 0, 2]])),
        Mistake("dict", {"a": mesh}),
        Mistake("number", 3),
        Mistake("aligner class", cc.adapters.FaceMeshAligner),
    ]


def network(net: Any) -> list[Mistake]:
    values = {
        "None": None,
        "text": "net",
        "class": nn.Linear,
        "weights": getattr(net, "state_dict", dict)(),
        "list": [net],
        "number": 3,
    }
    return [Mistake(name, value) for name, value in values.items()]


def layer(module: Any) -> list[Mistake]:
    values: dict[str, Any] = {"unknown name": "layer9", "list": [module], "index": 0, "None": None, "class": nn.Conv2d}
    return [Mistake(name, value) for name, value in values.items()] + [Mistake("other network's", nn.Conv2d(3, 4, 3))]


def maps(x: Tensor) -> list[Mistake]:
    return [
        Mistake("numpy", x.numpy(), x),
        Mistake("list", list(x), x),
        Mistake("one map", x[0]),
        Mistake("channels last", x.permute(0, 2, 3, 1)),
        Mistake("three channels", x.expand(-1, 3, -1, -1)),
        Mistake("other size", x[..., :-3]),
        Mistake("None", None),
        Mistake("empty", x[:0]),
        Mistake("path", "maps.npy"),
        Mistake("NaN", x * torch.nan, VISIBLE),
        Mistake("number", 3),
        Mistake("texts", ["a", "b"]),
        Mistake("DataLoader", DataLoader(list(x))),
    ]


def scores(x: Tensor) -> list[Mistake]:
    return [
        Mistake("numpy", x.numpy(), x),
        Mistake("list", x.tolist(), x),
        Mistake("matrix", x[:, None].expand(-1, 2)),
        Mistake("one too many", torch.cat([x, x[:1]])),
        Mistake("None", None),
        Mistake("NaN", x * torch.nan, VISIBLE),
        Mistake("texts", ["a"] * len(x)),
        Mistake("number", 0.5),
        Mistake("empty", x[:0]),
    ]


def result(run: Any) -> list[Mistake]:
    return [
        Mistake("missing folder", "no-such-run"),
        Mistake("None", None),
        Mistake("mean", run.mean),
        Mistake("numpy", run.mean.numpy()),
        Mistake("list", [run]),
        Mistake("face", run.canonical_face),
        Mistake("strata", {"a": run}),
        Mistake("class", cc.ModelSaliency),
        Mistake("without single maps", cc.ModelSaliency(run.mean, run.variance, run.count, run.coverage, run.n), run),
    ]


def labels(given: Sequence[Any]) -> list[Mistake]:
    wrong = {
        "one too few": list(given or [1, 2])[:-1],
        "text": "text",
        "number": 3,
        "empty": [],
        "None in a list": [None],
    }
    return [Mistake(name, value) for name, value in wrong.items()]


def device(_: Any) -> list[Mistake]:
    return [Mistake(repr(value), value) for value in (0, "cuda", "gpu", "cuda:9", 1.5, ["cpu"])]


def texts(given: Any) -> list[Mistake]:
    """Of sequences of words with a meaning."""
    wrong: dict[str, Any] = {"empty": (), "unknown": ("typo",), "numbers": (1, 2), "number": 3, "None inside": (None,)}
    return [Mistake(name, value) for name, value in wrong.items()]


def out_path(_: Any) -> list[Mistake]:
    return [Mistake(repr(value), value) for value in (None, 3, ["a"], "/no/such/folder/x", "")]


def in_path(_: Any) -> list[Mistake]:
    return [Mistake(repr(value), value) for value in (None, 3, ["a"], "missing", "", "/dev/null", "/tmp")]
