"""The canonical face in three dimensions, drawn and turned by plotly.js."""

from __future__ import annotations

from typing import Any

from captum_canonical.canonical_face import CanonicalFace
from captum_canonical.errors import MissingDependencyError


def plotly_script() -> str:
    """The library itself, to be embedded.

    Raises:
        MissingDependencyError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingDependencyError(
            "report: the face in three dimensions needs plotly, which is not installed: pip install "
            "'captum-canonical[report]', or leave it out with head=False."
        ) from error
    return str(get_plotlyjs())


def mesh_of(face: CanonicalFace) -> dict[str, Any] | None:
    """Vertices (x, y, z in pixels of the face's image) and triangles as lists; None if the face has no surface.

    The page's script divides the triangles and colours them from the flat maps, so that both show the same values.
    """
    flat = float(face.vertices[:, 2].max() - face.vertices[:, 2].min()) == 0
    if not len(face.triangles) or flat:
        return None
    vertices = [[round(value, 2) for value in vertex] for vertex in face.vertices.tolist()]
    return {"vertices": vertices, "triangles": face.triangles.tolist(), "size": list(face.size)}
