#!/usr/bin/env bash
# Builds a release and tries it away from the source tree: sdist and wheel, their contents, the wheel with the newest and
# with the oldest supported versions of everything but torch, of which one build is enough because of its size; with
# these the quick start and a part of the tests are run, with --tests a larger one (many minutes).
# Needs the extra "dev"; PYTHON=... picks the interpreter of the environments.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export MPLBACKEND=Agg

python -m build --outdir "$work/dist" . >"$work/build.log" || { cat "$work/build.log" >&2; exit 1; }
twine check --strict "$work"/dist/*
python tools/check_contents.py "$work"/dist/*
wheel=$(echo "$work"/dist/*.whl)

# The numbers that everything else stands on; with --tests nearly all of them. Left out: what needs tools beyond these
# versions (browser, notebook, documentation), and long studies of ours. Captum hides the same features of several
# inputs together from 0.9 on.
if [ "${1:-}" = --tests ]; then
    tests=(tests/test_{checks,files,fingerprint,plugins,public_api,tables}.py
        tests/{adapters,attributions,cli,confidence,data,faces,inference,run_folder,saliency,statistics,visualization})
else
    tests=(tests/{attributions,faces,run_folder,statistics} tests/saliency/test_metric.py)
fi
deselected=tests/confidence/test_recognition.py::test_hiding_what_makes_a_genuine_pair_alike_is_a_positive_drop

# Installs the wheel with these constraints into a new environment, computes a map that is known beforehand, and runs the
# quick start and the tests. Python puts the folder of a script first on its path, so that the package is the wheel's.
try() {
    local bin="$work/$1/bin"
    "${PYTHON:-python3}" -m venv "$work/$1"
    "$bin/pip" install --quiet --constraint "$2" "$wheel[demo,report]" pytest hypothesis
    mkdir "$work/empty-$1"
    (cd "$work/empty-$1" && "$bin/captum-canonical" info && "$bin/python" "$source/examples/quickstart.py")
    "$bin/python" -m pytest -q --deselect "$deselected" "${tests[@]}"
    rm -rf "${work:?}/$1"
}

echo "-- the newest versions of the day"
grep '^torch==' constraints.txt >"$work/torch.txt"
try newest "$work/torch.txt"

echo "-- the oldest supported versions"
try oldest constraints-oldest.txt
