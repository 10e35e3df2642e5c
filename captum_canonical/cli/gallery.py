"""The gallery of ``--gallery``: the people that an encoder knows, and features of their photographs."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_canonical.cli.photographs import aligner_of
from captum_canonical.confidence.recognition import ZeroShotConfidence
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.errors import CanonicalError
from captum_canonical.fingerprint import fingerprint
from captum_canonical.modules import dtype_of
from captum_canonical.networks.settings import NetworkSettings

ENCODED = 32  # photographs at once


def gallery_confidence(
    arguments: Namespace, settings: NetworkSettings, encoder: Callable[..., Any], device: torch.device
) -> tuple[ZeroShotConfidence, str]:
    """Recognition in the gallery, the cosine similarity to each of its photographs; and what identifies the gallery.

    Raises:
        CanonicalError: there is none, or no face in any of its photographs.
    """
    place: Path | None = arguments.gallery
    if place is None:
        raise CanonicalError(
            "--kind encoder: expected --gallery, a folder with one folder of photographs for each person, whom "
            "photographs are compared with."
        )
    if not place.exists():
        raise CanonicalError(f"--gallery {place}: there is no such folder or table.")
    table = {} if place.is_dir() else {"columns": arguments.columns, "root": arguments.images}  # as those of --labels
    nested = place.is_dir() and any(each.is_dir() for each in place.iterdir())
    data = AlignedFaces(
        place,
        aligner_of(arguments),
        **settings.preprocessing,
        cache=arguments.cache,
        quality=arguments.quality,
        subfolder="identity" if nested else None,
        **table,
    ).align(not arguments.quiet)
    if not len(data):
        raise CanonicalError(f"--gallery {place}: no face was found in any of {len(data.rows)} photographs.")
    rows = [data.rows[number] for number in data.places]
    labels = [row.name if row.identity is None else row.identity for row in rows]
    features = encode(encoder, data, device, ENCODED, not arguments.quiet)
    return ZeroShotConfidence(encoder, features.to(device), labels), fingerprint([data.fingerprint, labels])


@torch.no_grad()
def encode(
    encoder: Callable[..., Any], data: AlignedFaces, device: torch.device, batch_size: int, show_progress: bool
) -> Tensor:
    """(N, D) the features of the photographs that show a face, in their order, on the CPU.

    Raises:
        CanonicalError: they are not finite, or single numbers.
    """
    found = []
    for start in tqdm(range(0, len(data), batch_size), desc="Encoding", unit="batch", disable=not show_progress):
        batch = data.collate([data[index] for index in range(start, min(start + batch_size, len(data)))])
        found.append(encoder(batch.to(device, dtype_of(encoder)).images).cpu())
        if found[-1].ndim != 2 or found[-1].shape[1] < 2 or not torch.isfinite(found[-1]).all():
            raise CanonicalError(
                f"--model: expected finite features, several numbers for each photograph, got {tuple(found[-1].shape)}."
            )
    return torch.cat(found)
