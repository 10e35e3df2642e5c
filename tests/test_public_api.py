"""The names that users rely on, and what importing them costs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

import captum_canonical

NAMES = [
    "AlignedFaces",
    "AlignmentError",
    "BenchmarkResult",
    "BinnedConfidence",
    "CanonicalError",
    "CanonicalFace",
    "CanonicalModelSaliency",
    "CanonicalOcclusion",
    "CanonicalProjector",
    "ClassConfidence",
    "FaceMesh",
    "GuidedGradCamPlusPlus",
    "LayerGradCamPlusPlus",
    "LayerScoreCam",
    "Layout",
    "MissingDependencyError",
    "ModelSaliency",
    "NoFaceError",
    "RandomizationTest",
    "RefinedMaps",
    "RegressionConfidence",
    "SplitHalf",
    "StandardError",
    "VerificationConfidence",
    "ZeroShotConfidence",
    "adapters",
    "benchmark",
    "compare_groups",
    "compare_models",
    "data",
    "explain_dataset",
    "faithfulness",
    "last_spatial_layer",
    "load_network",
    "model_randomization",
    "read_labels",
    "region_table",
    "report",
    "visualization",
]
OPTIONAL = [
    "mediapipe",
    "face_alignment",
    "torchmetrics",
    "captum_canonical.adapters",
    "captum_canonical.visualization",
]


FRESH_INTERPRETER = """
import json, random, sys
import numpy, torch, captum.attr
torch.manual_seed(1), numpy.random.seed(1), random.seed(1)

def state():
    return [torch.get_rng_state().tolist(), numpy.random.get_state()[1].tolist(), random.getstate(),
            torch.get_num_threads(), torch.is_grad_enabled(), str(torch.get_default_dtype())]

before = state()
import captum_canonical
loaded = sorted(sys.modules)
captum_canonical.CanonicalFace.default()
facts = {"loaded": loaded, "same state": state() == before}
captum_canonical.CanonicalModelSaliency
facts["loaded later"] = sorted(sys.modules)
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def fresh() -> dict:
    """What a new interpreter notices when it imports the package."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH_INTERPRETER], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_names_are_pinned() -> None:
    """A name that comes or goes is a change of the public interface: note it in the change log, then here."""
    assert sorted(captum_canonical.__all__) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_names_can_be_reached(name: str) -> None:
    assert getattr(captum_canonical, name) is not None
    assert name in dir(captum_canonical)


def test_star_import_and_unknown_names() -> None:
    scope: dict = {}
    exec("from captum_canonical import *", scope)
    assert set(NAMES) <= set(scope)
    with pytest.raises(AttributeError, match="NoSuchThing"):
        captum_canonical.NoSuchThing  # noqa: B018
    with pytest.raises(ImportError):
        importlib.import_module("captum_canonical.NoSuchThing")


def test_sub_packages_export_what_they_list() -> None:
    for name in ("attributions", "adapters"):
        package = importlib.import_module(f"captum_canonical.{name}")
        for exported in package.__all__:
            assert getattr(package, exported) is not None


def test_attributions_are_public() -> None:
    from captum_canonical import attributions

    for name in attributions.__all__:
        assert getattr(captum_canonical, name) is getattr(attributions, name)


def test_adapters_of_the_design() -> None:
    adapters = captum_canonical.adapters
    for name in (
        "FaceAlignmentAligner",
        "KeypointAligner",
        "MediaPipeAligner",
        "PixelGrid",
        "load_prnet_face",
        "load_prnet_mesh",
    ):
        assert name in adapters.__all__
        assert callable(getattr(adapters, name))


def test_errors_form_one_family() -> None:
    for error in ("AlignmentError", "MissingDependencyError", "NoFaceError"):
        assert issubclass(getattr(captum_canonical, error), captum_canonical.CanonicalError)
    assert issubclass(captum_canonical.CanonicalError, ValueError)
    assert issubclass(captum_canonical.MissingDependencyError, ImportError)


def test_import_loads_nothing_heavy(fresh: dict) -> None:
    """Captum itself imports matplotlib; MediaPipe, face-alignment and torchmetrics wait for their first use."""
    assert "captum_canonical.faces.warp" in fresh["loaded"]
    assert [name for name in OPTIONAL if name in fresh["loaded"]] == []


def test_lazy_names_load_at_first_use(fresh: dict) -> None:
    assert "torchmetrics" in fresh["loaded later"]
    assert "mediapipe" not in fresh["loaded later"]


def test_import_leaves_global_state_alone(fresh: dict) -> None:
    assert fresh["same state"]


def test_version() -> None:
    from importlib import metadata

    try:
        installed = metadata.version("captum-canonical")
    except metadata.PackageNotFoundError:
        pytest.skip("the package runs from its source folder, not installed")
    assert captum_canonical.__version__ == installed
