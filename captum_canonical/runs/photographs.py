"""All photographs of a run's source, those without a map too: where each lies, and why some were left out before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_canonical.errors import CanonicalError
from captum_canonical.runs.manifest import read_json, write_json

PHOTOGRAPHS = "photographs.json"
PHOTO_COLUMNS = ("place", "name", "group", "path", "box", "left_out")
Photographs = Mapping[str, Sequence[Any]]
"""Column -> one entry for each photograph of the source: ``place``, ``name``, ``group``, ``path`` (absolute; None for
what came as tensors), ``box`` (left, top, right, bottom of the face in pixels of the file, or None) and ``left_out``
(None, or the kind of reason for which it takes no part: "no face", "not aligned", "unreadable")."""


def write_photographs(root: Path, photographs: Photographs) -> None:
    """Writes them into a run folder, or over what an earlier call wrote: photographs may have moved since.

    They decide nothing about the maps, so that a folder without this file is a run all the same.
    """
    write_json(root / PHOTOGRAPHS, {name: list(photographs[name]) for name in PHOTO_COLUMNS})


def read_photographs(root: Path) -> Photographs | None:
    """What :func:`write_photographs` wrote; None where there is no such file.

    Raises:
        CanonicalError: the file is damaged.
    """
    found = read_json(root / PHOTOGRAPHS)
    if found is None:
        return None
    columns = [found.get(name) for name in PHOTO_COLUMNS]
    if not all(isinstance(column, list) for column in columns) or len({len(column or ()) for column in columns}) != 1:
        raise CanonicalError(
            f"{root / PHOTOGRAPHS}: expected the columns {', '.join(PHOTO_COLUMNS)} of one length; the file is "
            "damaged. Remove it: the run does without, and the call that made the run writes it again."
        )
    return found
