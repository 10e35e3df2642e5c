"""The settings of a run and the list of its photographs, as JSON files."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from captum_canonical.errors import CanonicalError
from captum_canonical.files import is_undamaged, read_json, with_checksum, write_json

FORMAT = "captum_canonical run 2"
PACKAGES = ("captum-canonical", "captum", "torch", "numpy")


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


@dataclass(frozen=True)
class Manifest:
    """What decides the contents of a run folder.

    Attributes:
        count: N, the photographs of the run.
        size: (H, W) of the canonical maps.
        settings: name -> what JSON can hold.
        network: fingerprint of the network.
        data: fingerprint of the photographs.
        versions: of the packages.
        format: of the folder.
    """

    count: int
    size: tuple[int, int]
    settings: Mapping[str, Any]
    network: str
    data: str
    versions: Mapping[str, str] = field(default_factory=versions)
    format: str = FORMAT

    def write(self, path: Path) -> None:
        """As JSON."""
        write_json(path, with_checksum(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """What :meth:`write` wrote.

        Raises:
            CanonicalError: there is none, or of another format.
        """
        values = read_json(path)
        if values is None:
            raise CanonicalError(f"{path.parent}: expected the folder of a run, but it holds no {path.name}.")
        if values.get("format") != FORMAT:
            raise CanonicalError(
                f"{path}: expected the format {FORMAT!r}, got {values.get('format')!r}; another release wrote it."
            )
        if not is_undamaged(values):
            raise CanonicalError(
                f"{path}: the manifest is damaged: its checksum is another one. Put back a copy of this file, or make "
                "the run again, in a new folder."
            )
        try:
            height, width = values["size"]
            known = {each.name: values[each.name] for each in fields(cls)}
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise CanonicalError(f"{path}: the manifest is incomplete ({error!r}).") from error
        return cls(**(known | {"size": (height, width)}))

    def differences(self, other: Manifest) -> list[str]:
        """What must agree for one run to go on with the other, in words: "batch_size: 8 there, 4 now"."""
        ours, theirs = self._deciding(), other._deciding()
        return [
            f"{name}: {ours.get(name, 'nothing')} there, {theirs.get(name, 'nothing')} now"
            for name in sorted(ours.keys() | theirs.keys())
            if ours.get(name) != theirs.get(name)
        ]

    def _deciding(self) -> dict[str, Any]:
        # Through JSON, so that a tuple equals the list that is read back.
        settings = dict(flat(json.loads(json.dumps(dict(self.settings)))))
        return settings | {
            "number of photographs": self.count,
            "size of the maps": list(self.size),
            "network": self.network,
            "photographs, their order, meshes or targets": self.data,
        }


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of nested settings.

    Example::

        >>> dict(flat({"method": {"class": "IntegratedGradients", "steps": 50}, "seed": 0}))
        {'method.class': 'IntegratedGradients', 'method.steps': 50, 'seed': 0}
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


PHOTOGRAPHS = "photographs.json"
PHOTO_COLUMNS = ("row", "place", "name", "group", "identity", "label", "path", "box", "left_out", "reason")
PhotoColumns = Mapping[str, Any]
"""Column -> one entry for each photograph of the source: ``row`` in the run (None for those that take no part),
``place`` in the source, ``name``, ``group``, ``identity``, ``label`` (the target that the data know), ``path``
(absolute; None for what came as tensors), ``box`` (left, top, right, bottom of the face in pixels of the file),
``left_out`` (None, or the kind of reason for which it takes no part: "no face", "not aligned", "unreadable",
"low quality") and ``reason`` (in words). Perhaps ``groups``, name -> a column of values that photographs can be
compared by; ``quality``, name -> a column of how well faces are seen
(:data:`~captum_canonical.faces.quality.QUALITY`); and
``unused``, (path, kind, reason) of each file or line that did not become a photograph of the source."""


def write_photographs(root: Path, photographs: PhotoColumns, classes: Sequence[str] | None = None) -> None:
    """Writes them into a run folder, over what an earlier call wrote, all at once.

    Names, groups, identities and classes decide nothing about the maps, so that they may change between two calls;
    this file is the only one that holds them, for photographs that are finished as for the others.
    """
    write_json(root / PHOTOGRAPHS, photographs_json(photographs, classes))


def photographs_json(photographs: PhotoColumns, classes: Sequence[str] | None) -> dict[str, Any]:
    """What :func:`write_photographs` writes."""
    columns = {name: list(photographs[name]) for name in PHOTO_COLUMNS}
    more = {name: photographs[name] for name in ("groups", "quality", "unused") if photographs.get(name)}
    return with_checksum({**columns, **more, "classes": None if classes is None else list(classes)})


def read_photographs(root: Path) -> PhotoColumns | None:
    """What :func:`write_photographs` wrote, with ``classes``, None or names; None where there is no such file.

    Raises:
        CanonicalError: the file is damaged.
    """
    found = read_json(root / PHOTOGRAPHS)
    if found is None:
        return None
    more = [found.get(name, {}) for name in ("groups", "quality")]
    columns = [found.get(name) for name in PHOTO_COLUMNS]
    columns += [column for each in more for column in (each.values() if isinstance(each, dict) else [None])]
    lists = all(isinstance(column, list) for column in columns) and len({len(column or ()) for column in columns}) == 1
    if not lists or not is_undamaged(found):
        raise CanonicalError(
            f"{root / PHOTOGRAPHS}: expected the columns {', '.join(PHOTO_COLUMNS)} of one length with their checksum; "
            "the file is damaged. Remove it: the call that made the run writes it again."
        )
    return found
