"""The run folder: what was found for each photograph of a data set, in files that a crash cannot spoil."""

from __future__ import annotations

from captum_canonical.run_folder.folder import Records, RunFolder
from captum_canonical.run_folder.lock import FolderLock
from captum_canonical.run_folder.manifest import Manifest, PhotoColumns, write_photographs
from captum_canonical.run_folder.writer import RunWriter, begin_run

__all__ = [
    "FolderLock",
    "Manifest",
    "PhotoColumns",
    "Records",
    "RunFolder",
    "RunWriter",
    "begin_run",
    "write_photographs",
]
