"""What a reader of a benchmark must know: facts for the JSON, and notes in sentences for the tables."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from captum_canonical.adapters.external import ExternalAttribution
from captum_canonical.benchmarking.controls import CONTROLS
from captum_canonical.benchmarking.methods import Method
from captum_canonical.benchmarking.photos import Photos
from captum_canonical.benchmarking.scoring import percentages_apply
from captum_canonical.benchmarking.settings import Settings
from captum_canonical.faces.canonical_face import CanonicalFace
from captum_canonical.fingerprint import describe
from captum_canonical.statistics.units import FEWEST_IDENTITIES


def facts_of(photos: Photos, runs: Sequence[Method], identified: bool, controls: bool) -> dict[str, Any]:
    """What the settings do not say: the data, the methods, and the versions of everything."""
    import captum_canonical

    told = {}
    for run in runs:
        inner = getattr(run.attribution, "attribution_method", None)
        around = {"inside": type(inner).__name__} if inner is not None else {}
        own = {"canonical face": _face_told(run.photos.face)} if run.photos.faces is not photos.faces else {}
        told[run.name] = {
            "class": type(run.attribution).__name__,
            **around,
            **own,
            **({"scale": scale} if (scale := _scale(run.attribution)) else {}),
            "arguments": describe(run.arguments),
        }
    packages = {name: metadata.version(name) for name in ("captum", "torch", "numpy", "scipy", "torchmetrics")}
    return {
        "images": len(photos),
        "image size": list(photos.images.shape[1:]),
        "device": str(photos.images.device),
        "identities": int(photos.units.max()) + 1 if identified else None,
        "target": describe(photos.target),
        "fold of each image": photos.folds.tolist(),
        "canonical face": _face_told(photos.face),
        "methods": told,
        "controls": list(CONTROLS) if controls else [],
        "versions": {
            "captum_canonical": captum_canonical.__version__,
            "python": platform.python_version(),
            **packages,
        },
    }


def _face_told(face: CanonicalFace) -> dict[str, Any]:
    return {"size": list(face.size), "topology": face.topology}


def _scale(method: Any) -> str | None:
    """What the numbers of maps from elsewhere mean; None for Captum's methods and ours."""
    while method is not None:
        if isinstance(method, ExternalAttribution):
            return method.scale
        method = getattr(method, "attribution_method", None)
    return None


def notes_of(
    photos: Photos, settings: Settings, identified: bool, by_identity: bool, runs: Sequence[Method] = ()
) -> list[str]:
    """Sentences about n, intervals, tests and what is missing."""
    count, people = len(photos), int(photos.units.max()) + 1
    notes = [f"n = {count} images; {len(photos.left_out)} left out because no face was seen in them."]
    if by_identity:
        notes.append(f"Intervals (95 %) and tests resample the {people} identities.")
    elif identified:
        notes.append(
            f"No intervals by identity: {people} are too few ({FEWEST_IDENTITIES} are needed). Intervals (95 %) are by "
            "photo, and too narrow as far as photos of one person are alike; tests flip identities."
        )
    else:
        notes.append(
            "Identities are not known: intervals (95 %) and tests are by photo, and too narrow if photos show the same "
            "people."
        )
    if not percentages_apply(photos, settings):
        notes.append(
            f"No percentages: scores from {float(photos.clean.min()):.3g} to {float(photos.clean.max()):.3g} are no "
            "confidences in 0..1. Score with probabilities, or pass unbounded=True."
        )
    elif zero := int((photos.clean <= 0).sum()):
        notes.append(f"{zero} images with a clean score of 0 or less do not count in Average Drop %.")
    if scaled := [run.name for run in runs if _scale(run.attribution) == "normalised"]:
        notes.append(
            f"Maps that were scaled image by image: {', '.join(scaled)}. Their canonical mean weighs all images alike, "
            "however strongly the network answered, and the size of its values means nothing."
        )
    notes.append(
        "Ranks: paired sign-flip tests, two-sided, Holm's correction over all pairs of rows of a measure and fill. "
        "Values and intervals of a row do not depend on the others; Win % and ranks do."
    )
    return notes
