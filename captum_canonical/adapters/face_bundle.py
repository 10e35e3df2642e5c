"""Reading ``face_landmarker.task`` bundles, those that hold MediaPipe's 468-vertex network included.

A bundle is a zip archive of TensorFlow Lite networks. MediaPipe's task reads 478 landmarks (468 and ten of the irises)
from the face network whatever it holds, so the 468-vertex network of MediaPipe's own wheel would be read with a wrong
stride and give meaningless points. Its last layer is therefore widened here by ten copies of its first landmarks, which
the aligner leaves out again.
"""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from captum_canonical.errors import CanonicalError

FACE_NETWORK = "face_landmarks_detector.tflite"
VALUES, WIDENED = 3 * 468, 3 * 478


def read_bundle(path: Path) -> bytes:
    """The bundle's bytes as MediaPipe's Face Landmarker task needs them.

    Raises:
        CanonicalError: the file is no zip archive, or holds no face network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        network = members[FACE_NETWORK]
        widened = widen(network)
    except (zipfile.BadZipFile, KeyError, OSError, struct.error, IndexError) as error:
        raise CanonicalError(
            f"model_asset_path: {path} is no face_landmarker.task file ({error}); download it again."
        ) from error
    if widened is network:
        return path.read_bytes()
    members[FACE_NETWORK] = widened
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def widen(network: bytes) -> bytes:
    """The network with 478 instead of 468 landmarks in its last layer; the same object if it has not 468.

    TensorFlow Lite files are flat buffers: tables that point to each other by relative offsets. Weights are replaced by
    writing longer ones behind the end and turning the offset there.
    """
    tensors = [tensor for tensor in _tensors(network) if VALUES in tensor.shape]
    data = bytearray(network)
    for tensor in tensors:
        axis = tensor.shape.index(VALUES)
        struct.pack_into("<i", data, tensor.shape_at + 4 * axis, WIDENED)
        if axis == 0 and tensor.data_at is not None:  # weights and biases; results of layers hold no data
            start, length = _vector(network, tensor.data_at)
            old = network[start : start + length]
            new = old + old[: length // VALUES * (WIDENED - VALUES)]
            data += b"\0" * (-(len(data) + 4) % 16)
            struct.pack_into("<I", data, tensor.data_at, len(data) - tensor.data_at)
            data += struct.pack("<I", len(new)) + new
    return bytes(data) if tensors else network


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    shape_at: int  # where its shape's first number is
    data_at: int | None  # where the offset to its weights is


def _tensors(data: bytes) -> list[_Tensor]:
    """The tensors of the first sub-graph (the numbers of fields are those of TensorFlow Lite's schema)."""
    if data[4:8] != b"TFL3":
        raise IndexError(f"{FACE_NETWORK} is not a TensorFlow Lite network")
    model = _offset(data, 0)
    buffers = _tables(data, _field(data, model, 4))
    graph = _tables(data, _field(data, model, 2))[0]
    found = []
    for tensor in _tables(data, _field(data, graph, 0)):
        shape = _field(data, tensor, 0)
        number = _field(data, tensor, 2)
        if shape is None:
            continue
        start, length = _vector(data, shape)
        sizes = struct.unpack_from(f"<{length}i", data, start)
        buffer = 0 if number is None else struct.unpack_from("<I", data, number)[0]  # unset means 0, the empty one
        found.append(_Tensor(sizes, start, _field(data, buffers[buffer], 0)))
    return found


def _offset(data: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a table is; None if it is not set."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", data, layout)[0]:
        return None
    inside = struct.unpack_from("<H", data, layout + slot)[0]
    return table + inside if inside else None


def _vector(data: bytes, at: int) -> tuple[int, int]:
    """Start and length of the vector that the offset at ``at`` points to."""
    start = _offset(data, at)
    return start + 4, int(struct.unpack_from("<I", data, start)[0])


def _tables(data: bytes, at: int | None) -> list[int]:
    if at is None:
        return []
    start, length = _vector(data, at)
    return [_offset(data, start + 4 * number) for number in range(length)]
