"""Checks that a wheel and an sdist hold every file of the package that git knows, and nothing else of it.

python tools/check_contents.py dist/*.whl dist/*.tar.gz
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "captum_canonical"
WITH_RELEASE = (
    "LICENSE",
    "NOTICE",
    "README.md",
    "CHANGELOG.md",
    "constraints.txt",
    "tests/conftest.py",
    "examples/quickstart.py",
    "studies/known_answer.py",
)


def known_files() -> set[str]:
    """The files of the package, as git lists them."""
    done = subprocess.run(["git", "ls-files", "--", PACKAGE], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


def files_of(path: Path) -> set[str]:
    """The files in a wheel or sdist, without the folder that an sdist begins with."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return set(wheel.namelist())
    with tarfile.open(path) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def faults_of(path: Path, known: set[str]) -> list[str]:
    """What is wrong with a file, in lines."""
    found = files_of(path)
    inside = {name for name in found if name.startswith(f"{PACKAGE}/")}
    faults = [f"{path.name} lacks {name}" for name in sorted(known - inside)]
    faults += [f"{path.name} holds {name}, which git does not know" for name in sorted(inside - known)]
    if path.suffix == ".whl":
        own = (f"{PACKAGE}/", f"{PACKAGE}-")
        return faults + [f"{path.name} installs {name}" for name in sorted(found) if not name.startswith(own)]
    return faults + [f"{path.name} lacks {name}" for name in WITH_RELEASE if name not in found]


def main() -> None:
    known = known_files()
    if f"{PACKAGE}/py.typed" not in known:
        raise SystemExit("git lists no package files here; call this in the repository's root.")
    faults = [fault for name in sys.argv[1:] for fault in faults_of(Path(name), known)]
    if faults or len(sys.argv) < 2:
        raise SystemExit("\n".join(faults) or __doc__)
    print(f"{len(known)} files of the package, in each of {len(sys.argv) - 1}")


if __name__ == "__main__":
    main()
