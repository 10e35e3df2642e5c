#!/usr/bin/env bash
# Builds a release and tries it away from the source tree: sdist and wheel, their contents, the wheel in a clean virtual
# environment and with the oldest supported versions of everything but torch, which is not taken at its oldest because
# of its size; with these a part of the tests is run, with --tests a larger one (many minutes).
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

# Installs the wheel with these constraints into a new environment, and computes a map that is known beforehand.
try() {
    "${PYTHON:-python3}" -m venv "$work/$1"
    "$work/$1/bin/pip" install --quiet --constraint "$source/$2" "$wheel[demo,report]" "${@:3}"
    mkdir "$work/empty-$1"
    (cd "$work/empty-$1" && "$work/$1/bin/captum-canonical" info)
}

echo "-- the wheel in a clean environment"
try clean constraints.txt
rm -rf "$work/clean"

echo "-- the oldest supported versions"
try oldest constraints-oldest.txt pytest hypothesis
# The numbers that everything else stands on; with --tests nearly all of them. Left out: what needs tools beyond these
# versions (browser, notebook, documentation), and long studies of ours. Captum hides the same features of several
# inputs together from 0.9 on.
if [ "${1:-}" = --tests ]; then
    tests=(tests/test_{checks,files,fingerprint,plugins,public_api,tables}.py
        tests/{adapters,attributions,cli,confidence,data,faces,inference,run_folder,saliency,statistics,visualization})
else
    tests=(tests/{attributions,faces,run_folder,statistics} tests/saliency/test_metric.py)
fi
"$work/oldest/bin/python" -m pytest -q \
    --deselect tests/confidence/test_recognition.py::test_hiding_what_makes_a_genuine_pair_alike_is_a_positive_drop "${tests[@]}"
