"""What the names in README.md and docs/ stand for while their code is run: drawn faces and tiny networks.

A reader puts in their own. Every page starts anew, in an empty folder with these files and these names, and its Python
blocks run from top to bottom. Captum's own classes, `torch` and `cc` need no import, nor do the package's attributions.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam, Occlusion
from PIL import Image
from torch import Tensor, nn

import captum_canonical as cc
import onnx_tools
import peer_packages
import peers
from captum_canonical.adapters.face_mesh import FaceMeshAligner
from captum_canonical.faces.images import to_tensor
from captum_canonical.faces.photos import read_photo

PEOPLE = [f"person {letter}" for letter in "abcdefgh"]
TABLES = {
    "photos.csv": ("glasses", "no glasses"),
    "glasses.csv": ("glasses",),
    "no_glasses.csv": ("no glasses",),
}
TRANSFORMERS = peers.installed("transformers")  # now: later a stand-in may have its name
SIDE = 128  # pixels of a drawn photograph
SIZE = 64  # pixels of a network's input


@lru_cache
def drawn_photos() -> list[np.ndarray]:
    """Two photographs of each person, (SIDE, SIDE, 3) uint8: the package's drawn face, turned, moved and tinted."""
    face = F.pad(cc.CanonicalFace.default(96).image[None], (16, 16, 16, 16), mode="replicate")
    generator = torch.Generator().manual_seed(0)
    photos = []
    for place in range(2 * len(PEOPLE)):
        angle, x, y = (torch.rand(3, generator=generator) - 0.5).tolist()
        turn = torch.tensor(
            [[np.cos(angle / 3), -np.sin(angle / 3), x / 8], [np.sin(angle / 3), np.cos(angle / 3), y / 8]]
        )
        grid = F.affine_grid(turn[None].float(), [1, 3, SIDE, SIDE], align_corners=False)
        tint = 0.75 + 0.25 * torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(place // 2))
        photo = F.grid_sample(face, grid, padding_mode="border", align_corners=False)[0] * tint
        photos.append((photo * 255).round().byte().permute(1, 2, 0).numpy())
    return photos


def write_files(folder: Path) -> None:
    """`photos/`, `photos.csv` with target, group and identity of each, a table of each group, and downloaded ones."""
    (folder / "photos").mkdir()
    rows = []
    for place, photo in enumerate(drawn_photos()):
        person = PEOPLE[place // 2]
        name = f"photos/{person.replace(' ', '_')}_{place % 2 + 1}.png"
        Image.fromarray(photo).save(folder / name)
        rows.append([name, place // 2 % 2, "glasses" if place // 2 % 3 else "no glasses", person])
    for name, groups in TABLES.items():
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["path", "target", "group", "identity"])
            table.writerows(row for row in rows if row[2] in groups)
    _write_downloaded(folder, [row[0] for row in rows])
    onnx_tools.write_twin(folder / "smile.onnx")
    _write_hugging_face(folder / "emotions")


def _write_downloaded(folder: Path, names: list[str]) -> None:
    """The same photographs with label tables in the formats of FairFace and CelebA."""
    ages, places = ("03-Sep", "20-29", "Oct-19", "more than 70"), range(len(names))
    cells = [
        (ages[at // 2 % 4], ("Male", "Female", "Female", "Male")[at // 2 % 4], ("White", "Black")[at // 2 % 2])
        for at in places
    ]
    lines = [f"{name},{','.join(each)},{at % 2 == 0}" for at, (name, each) in enumerate(zip(names, cells, strict=True))]
    (folder / "fairface_label_val.csv").write_text("\n".join(["file,age,gender,race,service_test", *lines]) + "\n")
    (folder / "img_align_celeba").mkdir()
    for number, name in enumerate(names, 1):
        (folder / "img_align_celeba" / f"{number:06}.png").hardlink_to(folder / name)
    attributes = [f"{at + 1:06}.jpg {2 * (at % 4 > 1) - 1:2} {1 - 2 * (at % 2):2}" for at in places]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), "Male Smiling ", *attributes]) + "\n")
    people = [f"{at + 1:06}.jpg {2880 + at // 2}" for at in places]
    (folder / "identity_CelebA.txt").write_text("\n".join(people) + "\n")


def _write_hugging_face(folder: Path) -> None:
    """A network with three emotions, of transformers or, where that is not installed, of its stand-in."""
    names = {0: "sad", 1: "glad", 2: "angry"}
    normal = {"size": {"height": SIZE, "width": SIZE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if not TRANSFORMERS:
        peer_packages.save_folder(folder, names, normal)
        return
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=SIZE, patch_size=16, id2label=names, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(normal))


@lru_cache
def service_address() -> str:
    """A service on this machine that answers a PNG with two scores in JSON, until the tests end."""
    net = TinyNetwork(2, seed=0)

    class Answer(BaseHTTPRequestHandler):
        wbufsize = -1  # the answer in one piece

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            photo = to_tensor([np.asarray(Image.open(io.BytesIO(content)))])
            answer = json.dumps({"scores": net(photo).softmax(1)[0].tolist()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing is written to the tests' output."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # else some of the pages' requests wait for a second

    server = Server(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/scores"


class TinyNetwork(nn.Sequential):
    """One convolution, from images of any size to ``outputs`` numbers."""

    def __init__(self, outputs: int, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(
                nn.Conv2d(3, 6, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, outputs)
            )
        self.eval().requires_grad_(False)


@lru_cache
def _small_photos() -> tuple[Tensor, cc.FaceMesh]:
    photos = F.interpolate(to_tensor(drawn_photos()), (SIZE, SIZE), mode="bilinear", antialias=True)
    return photos, FaceMeshAligner()(photos)


def names_of(folder: Path) -> dict[str, Any]:
    """The names that need no explanation where they are used."""
    photos, faces = _small_photos()
    net = TinyNetwork(2, seed=0)
    return {
        "torch": torch,
        "nn": nn,
        "cc": cc,
        "Occlusion": Occlusion,
        "LayerGradCam": LayerGradCam,
        "CanonicalOcclusion": cc.CanonicalOcclusion,
        "CanonicalProjector": cc.CanonicalProjector,
        "net": net,  # images (N, 3, H, W) to the logits of two classes
        "other_net": TinyNetwork(2, seed=1),
        "layer": net[0],
        "encoder": TinyNetwork(8, seed=2),  # to features
        "regressor": TinyNetwork(1, seed=3),  # to an age
        "fairface": TinyNetwork(18, seed=4),  # to the logits of FairFace's heads
        "ADDRESS": service_address(),  # of a service that scores one photograph
        "photos": photos[:4].clone(),  # a batch of photographs, the meshes of the faces in them, and classes
        "x": photos[:4].clone(),
        "faces": faces[:4],
        "y": torch.tensor([0, 1, 0, 1]),
        "names": [PEOPLE[place // 2] for place in range(4)],
        "photo": read_photo(folder / "photos" / "person_a_1.png"),
    }
