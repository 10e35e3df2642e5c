#!/usr/bin/env bash
# Today's networks, of torchvision, timm and transformers, one line each for maps, scores, runs and the command line: the
# slow tests of tests/networks, in an environment of their own, since the everyday suite needs none of these packages.
# Downloads no weights. Further arguments go to pytest: bash tools/check_networks.sh -k "timm and resnet".
# PYTHON=... picks the interpreter; ENVIRONMENT=... keeps the environment in that folder for the next time.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export MPLBACKEND=Agg
unset PYTHONPATH

environment=${ENVIRONMENT:-$(mktemp -d)}
[ -n "${ENVIRONMENT:-}" ] || trap 'rm -rf "$environment"' EXIT
[ -x "$environment/bin/python" ] || "${PYTHON:-python3}" -m venv "$environment"
# shellcheck disable=SC1091
. "$environment/bin/activate"

# torchvision, onnx and their like must fit torch's release; the versions of everything else are free.
pip install --quiet torch==2.14.1 torchvision==0.29.1 -e ".[timm,transformers,onnx]" pytest hypothesis
pytest -m slow -s tests/networks "$@"
