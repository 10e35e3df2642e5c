"""The run folder: what was found for each photograph of a data set, in files that a crash cannot spoil."""

from __future__ import annotations

from captum_canonical.runs.folder import Records, RunFolder
from captum_canonical.runs.lock import FolderLock
from captum_canonical.runs.manifest import Manifest, read_json, write_json
from captum_canonical.runs.photographs import Photographs, write_photographs
from captum_canonical.runs.writer import RunWriter, begin_run

__all__ = [
    "FolderLock",
    "Manifest",
    "Photographs",
    "Records",
    "RunFolder",
    "RunWriter",
    "begin_run",
    "read_json",
    "write_json",
    "write_photographs",
]
