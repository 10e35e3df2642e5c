"""Files that a crash cannot spoil, and the JSON in them."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import uuid
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import IO, Any

from captum_canonical.errors import CanonicalError

Content = str | bytes | Callable[[IO[bytes]], object]


def write_file(path: str | PathLike[str], content: Content, *, sync: bool = True) -> None:
    """Writes a file of which others see the new contents or, if anything goes wrong, the old ones.

    The contents go into a temporary file in the same folder, ``.NAME-....partial``, which then takes the file's place
    and its permissions. Links are followed. Devices and pipes, which cannot be replaced, are written to directly.

    Args:
        path: of the file.
        content: text (written as UTF-8), bytes, or a function that writes to an open binary file.
        sync: wait until the contents are on the disk, so that not even a power failure leaves half of them.

    Raises:
        OSError: the file cannot be written; the old one stays.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_file(Path(folder) / "notes.txt", "a")
        ...     write_file(Path(folder) / "notes.txt", lambda file: file.write(b"b"))
        ...     [(each.name, each.read_text()) for each in Path(folder).iterdir()]
        [('notes.txt', 'b')]
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:
            _fill(file, content)
        return
    temporary = target.with_name(f".{target.name[:100]}-{uuid.uuid4().hex}.partial")
    try:
        with open(temporary, "wb") as file:
            _fill(file, content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        with suppress(OSError):  # there is no old one, or a file system without permissions
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _fill(file: IO[bytes], content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def open_regular(path: str | PathLike[str]) -> IO[bytes]:
    """Opens a regular file, or a link to one, for reading; pipes and devices, which may never end, are refused.

    Raises:
        OSError: there is no such file, or it is a pipe, a socket or a device.

    Example::

        >>> open_regular(os.devnull)
        Traceback (most recent call last):
        OSError: [Errno 22] expected a regular file, but this is a pipe, a socket or a device: '/dev/null'
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # open() has an error of its own for folders
        problem = "expected a regular file, but this is a pipe, a socket or a device"
        raise OSError(errno.EINVAL, problem, os.fspath(path))
    return open(path, "rb")


def read_regular(path: str | PathLike[str]) -> bytes:
    """The bytes of a file; see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def finite(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: None takes their place, also in nested values.

    Example::

        >>> finite({"a": (1.0, math.nan)})
        {'a': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """A value as JSON of several lines; NaN and infinity become ``null``.

    Args:
        value: of what JSON can hold.
        default: what to write for anything else. Default: a TypeError.

    Example::

        >>> json_text({"a": math.inf, "b": Path("c")}, default=str).split()
        ['{', '"a":', 'null,', '"b":', '"c"', '}']
    """
    return json.dumps(finite(value), indent=1, allow_nan=False, default=default)


def write_json(path: Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """:func:`json_text` in a file, written by :func:`write_file`."""
    write_file(path, json_text(value, default))


CHECKSUM = "checksum"


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object for JSON with a checksum of all else that it holds, by which :func:`read_json` finds damage.

    Example::

        >>> kept = with_checksum({"a": 1})
        >>> is_undamaged(kept), is_undamaged(kept | {"a": 2})
        (True, False)
    """
    content = {name: each for name, each in json.loads(json_text(value)).items() if name != CHECKSUM}
    text = json.dumps(content, sort_keys=True)
    return {**content, CHECKSUM: zlib.crc32(text.encode())}


def is_undamaged(value: Mapping[str, Any]) -> bool:
    """Whether an object has the checksum that :func:`with_checksum` gives it."""
    return CHECKSUM in value and with_checksum(value)[CHECKSUM] == value[CHECKSUM]


def read_json(path: Path, checked: bool = False) -> dict[str, Any] | None:
    """The JSON object in a file, None if there is no such file.

    Args:
        path: of the file.
        checked: the object has a checksum, which must be right.

    Raises:
        CanonicalError: the file holds none, or is damaged.
    """
    try:
        value = json.loads(read_regular(path).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CanonicalError(f"{path}: expected a JSON object, but the file cannot be read ({error}).") from error
    if not isinstance(value, dict):
        raise CanonicalError(f"{path}: expected a JSON object, got a {type(value).__name__}.")
    if checked and not is_undamaged(value):
        raise CanonicalError(f"{path}: expected the contents as they were written, but their checksum is another one.")
    return value


def file_digest(path: str | PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
