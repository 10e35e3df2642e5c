"""Runs whose pages the tests look at, made in a second."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import captum_canonical as cc
from captum_canonical.run_folder.writer import RunWriter

FACE = cc.CanonicalFace.default(48)
SIDE = 24  # pixels of photographs and network inputs


BATCH = 4


class Network(nn.Module):
    """Two classes, from means over blocks of pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(108, 2)).eval()

    def forward(self, photos: Tensor) -> Tensor:
        return self.layers(photos)


@contextmanager
def interrupted_after(batches: int | None) -> Iterator[None]:
    """Ctrl-C is pressed when so many batches are written."""
    write, written = RunWriter.write, 0

    def write_some(self: RunWriter, *arguments: Any) -> None:
        nonlocal written
        if written == batches:
            raise KeyboardInterrupt
        written += 1
        write(self, *arguments)

    with mock.patch.object(RunWriter, "write", write_some), suppress(KeyboardInterrupt):
        yield


def run_order(count: int) -> list[int]:
    """Numbers of photographs in the order of a run."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()


def write_photos(folder: Path, names: list[str]) -> list[Path]:
    """Files of coloured noise, each around a colour of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        random = np.random.default_rng(number)
        pixels = random.integers(0, 200, 3) + random.integers(0, 50, (SIDE, SIDE, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / name, "PNG")
    return [folder / name for name in names]


def mesh(_: object = None) -> cc.FaceMesh:
    """The canonical face itself, as the mesh of any photograph."""
    return cc.FaceMesh(FACE.vertices[None] * SIDE / 48, image_size=(SIDE, SIDE), topology=FACE.topology)


def make_run(
    folder: Path,
    names: list[str],
    groups: list[str | None],
    *,
    lose: tuple[int, ...] = (),
    stop_after: int | None = None,
    unreadable: tuple[int, ...] = (),
) -> Path:
    """A run folder of these photographs.

    Args:
        folder: photographs go to ``photos`` in it, the run to ``run``.
        names, groups: of the photographs.
        lose: numbers of files that go away before the run, so that it fails on them.
        stop_after: batches of four after which the run is interrupted.
        unreadable: numbers of files that are no images.
    """
    paths = write_photos(folder / "photos", names)
    for number in unreadable:
        paths[number].write_text("no image")
    source = [
        {"path": path.name, "target": number % 2, "group": group, "identity": f"Alice {number}"}
        for number, (path, group) in enumerate(zip(paths, groups, strict=True))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about what is left out, which is what the pages are about
        data = cc.AlignedFaces(source, faces=mesh, size=SIDE, crop=None, classes=2, root=folder / "photos").align()
    for number in lose:
        paths[number].unlink()
    with interrupted_after(stop_after):
        cc.explain_dataset(
            Network(), data, folder / "run", target=1, canonical_face=FACE, num_points=24, batch_size=BATCH,
            inference="dense", perturbations_per_eval=32, show_progress=False,
        )  # fmt: skip
    return folder / "run"


class Texts(HTMLParser):
    """What a page says: texts outside of scripts and styles, and the cells of its tables."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._stack: list[str] = []
        self._table: list[list[str]] = []
        self._caption = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "meta", "input", "br"):
            self._stack.append(tag)
        if tag == "table":
            self._table, self._caption = [], ""
        elif tag == "tr":
            self._table.append([])
        elif tag in ("th", "td"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._stack and self._stack.pop() != tag:
            pass
        if tag == "table":
            self.tables[self._caption.strip()] = [[" ".join(cell.split()) for cell in row] for row in self._table]

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & {*self._stack}:
            return
        self.texts.append(data)
        if "caption" in self._stack and "span" not in self._stack:
            self._caption += data
        elif {"th", "td"} & {*self._stack} and self._table:
            self._table[-1][-1] += data

    @property
    def said(self) -> str:
        """All texts, spaces made single."""
        return " ".join(" ".join(self.texts).split())
