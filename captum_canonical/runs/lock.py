"""One run at a time in a folder."""

from __future__ import annotations

import json
import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from captum_canonical.errors import CanonicalError

NAME = "lock.json"


class FolderLock:
    """A file that says which process works in a folder; that of a process which is gone does not count.

    Args:
        folder: made if it is not there.

    Raises:
        CanonicalError: the folder is a file or cannot be made; or another process works there,
            or may do so: whether one of another computer lives cannot be told.

    Example::

        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with FolderLock(Path(folder.name)):
        ...     FolderLock(Path(folder.name)).__enter__()
        Traceback (most recent call last):
        captum_canonical.errors.CanonicalError: ...: another run is writing into this folder: process ...
        >>> folder.cleanup()
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        pid = os.getpid()
        self._own = {"pid": pid, "host": socket.gethostname(), "started": _started(pid), "token": uuid.uuid4().hex}

    def __enter__(self) -> FolderLock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CanonicalError(f"{self._path.parent}: expected a folder, but it cannot be made ({error}).") from error
        for _ in range(10):  # others may try to take over the same stale lock
            if self._take():
                return self
            holder = self._holder()
            if holder is None:
                continue  # released in the meantime
            if _lives(holder):
                raise CanonicalError(
                    f"{self._path.parent}: another run is writing into this folder: process {holder.get('pid')} on "
                    f"{holder.get('host')}. Wait for it or choose another folder; if that process is gone, delete "
                    f"{self._path}."
                )
            self._remove_stale(holder)
        raise CanonicalError(f"{self._path}: expected to get the lock of this folder, but others keep taking it.")

    def __exit__(self, *_: object) -> None:
        holder = self._holder()
        if holder is not None and holder.get("token") == self._own["token"]:
            with suppress(OSError):
                self._path.unlink()

    def _take(self) -> bool:
        """Complete or not at all: a link to a file that is written already."""
        draft = self._path.with_name(f".lock-{self._own['token']}.partial")
        draft.write_text(json.dumps(self._own), "utf-8")
        try:
            os.link(draft, self._path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            return self._take_without_links()
        finally:
            draft.unlink()
        return True

    def _take_without_links(self) -> bool:
        try:
            with open(self._path, "x", encoding="utf-8") as file:
                json.dump(self._own, file)
        except FileExistsError:
            return False
        return True

    def _holder(self) -> dict[str, Any] | None:
        try:
            holder = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return {"pid": "unknown", "host": "an unknown computer"}
        return holder if isinstance(holder, dict) else {}

    def _remove_stale(self, holder: dict[str, Any]) -> None:
        aside = self._path.with_name(f".lock-{uuid.uuid4().hex}.stale.partial")
        with suppress(FileNotFoundError):
            os.rename(self._path, aside)
            taken = json.loads(aside.read_text("utf-8"))
            if taken != holder:  # somebody else was faster, and this is the new lock
                os.rename(aside, self._path)
            else:
                aside.unlink()


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process that holds a lock may be alive."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # signal 0 is none: only whether there is such a process
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return holder.get("started") is None or holder["started"] == _started(pid)  # else its number was given again


def _started(pid: int) -> str | None:
    """When a process began, in its computer's own unit; None where that cannot be told."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return None
    return status.rpartition(")")[2].split()[19]
