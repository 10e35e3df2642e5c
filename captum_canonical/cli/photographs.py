"""The photographs and the aligner that options name: a folder or label tables with the columns that are chosen."""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from captum_canonical.adapters.aligner import Aligner, CallableAligner, make_aligner
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.data.aligned_faces import AlignedFaces
from captum_canonical.data.label_table import LabelTable, table_of
from captum_canonical.data.photo_list import PhotoRow
from captum_canonical.errors import CanonicalError
from captum_canonical.faces.photo_files import is_photo
from captum_canonical.files import file_digest
from captum_canonical.networks.references import call_factory, load_plugin
from captum_canonical.networks.settings import NetworkSettings
from captum_canonical.plugins import ALIGNERS


def load_photographs(
    arguments: Namespace, settings: NetworkSettings, rows: Sequence[PhotoRow] | None = None
) -> AlignedFaces:
    """The data set of ``--images`` and ``--labels``, or of some of its rows; faces are not searched yet.

    Raises:
        CanonicalError: there are no photographs, or an option is wrong.
    """
    return AlignedFaces(
        _source(arguments) if rows is None else rows,
        aligner_of(arguments),
        **settings.preprocessing,
        cache=arguments.cache,
        quality=arguments.quality,
        classes=settings.class_names,
        subfolder=arguments.subfolder if rows is None else None,
    )


def _source(arguments: Namespace) -> str | LabelTable:
    images, tables = arguments.images, arguments.labels
    if images is None and not tables:
        raise CanonicalError("--images: expected a folder of photographs, a photograph or a label table; give one.")
    if images is not None and not Path(images).exists():
        raise CanonicalError(
            f"--images {images}: expected a folder of photographs, a photograph or a label table, but there is no such "
            "folder or file."
        )
    if tables and images is not None and not Path(images).is_dir():
        raise CanonicalError(f"--images {images}: expected the folder that the paths in --labels start at.")
    columns = dict(arguments.columns or {})
    if arguments.group and "group" in columns:
        raise CanonicalError("--group: expected only once what groups are; leave it out, or group= of --columns.")
    columns |= {"group": tuple(arguments.group)} if arguments.group else {}
    where: dict[str, list[str]] = {}
    for name, value in arguments.where or ():
        where.setdefault(name, []).append(value)
    place = Path(tables[0] if tables else images)
    if not tables and (is_photo(place) or (place.is_dir() and not (columns or where or arguments.format))):
        return str(images)
    table = table_of(tables or images, columns, images if tables else None, arguments.format, where)
    if len(table.missing) == len(table):
        raise CanonicalError(
            f"--images: expected the folder that the paths in {place} start at; none of the {len(table)} photographs "
            f"is there, such as {table.missing[0].path}."
        )
    return table


def aligner_of(arguments: Namespace) -> Aligner:
    """The aligner of ``--aligner``.

    Raises:
        CanonicalError: there is no such aligner, or it cannot be made without arguments.
    """
    options = {
        "on_missing": "skip",
        "device": arguments.device,
        "face": arguments.face,
        "model_asset_path": arguments.face_landmarker,
        "aligner": FaceMeshAligner(on_missing="skip", device=arguments.device),  # whose points others align by
    }
    source = load_plugin(arguments.aligner, ALIGNERS, "--aligner")
    given = {name: value for name, value in options.items() if value is not None}
    made = call_factory(make_aligner, f"--aligner {arguments.aligner}", {"source": source, "options": given})
    if isinstance(made, CallableAligner) and made.function is source and inspect.isfunction(source):
        # A function has no settings that could be compared, but all of it is in a file.
        file = Path(inspect.getfile(source))
        made.key = f"{source.__module__}.{source.__qualname__} {file_digest(file) if file.is_file() else ''}"
    return made
