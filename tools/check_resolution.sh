#!/usr/bin/env bash
# Whether both commands of README resolve with constraints.txt on each Python from 3.10 to 3.14. Nothing is installed; only
# metadata is fetched, which takes some minutes. Interpreters that are not on this machine (python3.N, or pyenv's) are
# named and left out. Python 3.14 is resolved by the interpreter of 3.13, whose markers in constraints.txt are the same.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# The newest interpreter of a version: pyenv's, else the system's.
interpreter() {
    { ls -d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python 2>/dev/null | sort -V | tail -1 | grep . ||
        command -v "python$1"; } || true
}

# Resolves both extras with the pip of an environment; further arguments go to pip.
resolve() {
    local version=$1 python=$2 extra
    for extra in demo test; do
        if "$python" -m pip install --quiet --dry-run --ignore-installed "${@:3}" -c constraints.txt ".[$extra]" \
            >"$work/log" 2>&1; then
            echo "Python $version, [$extra]: resolves"
        else
            echo "Python $version, [$extra]: does not resolve" >&2
            grep ERROR "$work/log" >&2 || cat "$work/log" >&2
            failed=1
        fi
    done
}

for version in 3.10 3.11 3.12 3.13; do
    python=$(interpreter "$version")
    [ -n "$python" ] || { echo "Python $version: no interpreter here, left out"; continue; }
    "$python" -m venv "$work/$version"
    # Older releases of pip download whole wheels to read their metadata.
    "$work/$version/bin/python" -m pip install --quiet --upgrade pip
    resolve "$version" "$work/$version/bin/python"
done
if [ -d "$work/3.13" ]; then
    resolve 3.14 "$work/3.13/bin/python" --python-version 3.14 --only-binary=:all: --target "$work/target"
fi
exit "$failed"
