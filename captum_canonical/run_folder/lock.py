"""One writer at a time in a run folder."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from captum_canonical.errors import CanonicalError
from captum_canonical.files import read_json, write_json

GUARD, HOLDER = ".lock", "lock.json"
PATIENCE = 10.0  # seconds; workers of a DataLoader notice after 5 that their parent was killed


class FolderLock:
    """Keeps other processes from writing into a folder while a ``with`` block runs.

    The system's lock on the file ``.lock``, which stays in the folder, ends with the process that took it, however it
    ends. ``lock.json`` says which process that is. As not every network file system passes locks on to other computers,
    a ``lock.json`` of another computer counts until it is deleted.

    Args:
        folder: made if it is not there.

    Raises:
        CanonicalError: the folder cannot be made or locked; or another process works there, or one of another computer
            may do so.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, FolderLock(Path(folder)):
        ...     FolderLock(Path(folder)).__enter__()
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: ...: another run is writing into this folder: process ...
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock  # here, because importing it takes a while

        self._folder = folder
        self._guard = FileLock(folder / GUARD)
        self._own = {"pid": os.getpid(), "host": socket.gethostname(), "token": uuid.uuid4().hex}

    def __enter__(self) -> FolderLock:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CanonicalError(f"{self._folder}: expected a folder, but it cannot be made ({error}).") from error
        self._acquire()
        try:
            self._check_other_computers()
            write_json(self._folder / HOLDER, self._own)
        except OSError as error:
            self._guard.release()
            raise CanonicalError(f"{self._folder}: the folder of the run cannot be made ({error}).") from error
        except BaseException:
            self._guard.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._holder().get("token") == self._own["token"]:
            with suppress(OSError):
                (self._folder / HOLDER).unlink()
        self._guard.release()

    def _acquire(self) -> None:
        from filelock import Timeout

        try:
            self._guard.acquire(timeout=0)
        except Timeout:
            if not self._is_dead(self._holder()):
                raise self._refusal() from None
            try:
                self._guard.acquire(timeout=PATIENCE)  # children of the dead process hold its lock
            except Timeout:
                raise self._refusal() from None
        except (OSError, NotImplementedError) as error:
            raise CanonicalError(f"{self._folder}: expected a folder that can be locked, but {error}.") from error

    def _check_other_computers(self) -> None:
        if (self._folder / HOLDER).exists() and self._holder().get("host") != self._own["host"]:
            raise self._refusal(f"; if that process is gone, delete {self._folder / HOLDER}")

    def _refusal(self, remedy: str = "") -> CanonicalError:
        holder = {"pid": "unknown", "host": "an unknown computer"} | self._holder()
        return CanonicalError(
            f"{self._folder}: another run is writing into this folder: process {holder['pid']} on {holder['host']}. "
            f"Wait for it or choose another folder{remedy}."
        )

    def _holder(self) -> dict[str, Any]:
        try:
            return read_json(self._folder / HOLDER) or {}
        except CanonicalError:
            return {}

    def _is_dead(self, holder: dict[str, Any]) -> bool:
        pid = holder.get("pid")
        if holder.get("host") != self._own["host"] or not isinstance(pid, int) or os.name != "posix":
            return False
        try:
            os.kill(pid, 0)  # signal 0 only asks whether there is such a process
        except ProcessLookupError:
            return True
        except OSError:  # somebody else's
            return False
        return False
