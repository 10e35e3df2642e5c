"""Aligners that look for faces, on one whose faces are drawn rectangles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from captum_canonical.adapters.detector import DetectorAligner, Finder
from captum_canonical.errors import AlignmentError, CanonicalError, NoFaceError
from captum_canonical.faces.mesh import FaceMesh


class Rectangles(DetectorAligner):
    """Finds one face of four corners in each uniformly coloured rectangle on black; a fifth vertex is behind it."""

    topology = "rectangle"
    num_vertices = 5

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.seen: list[np.ndarray] = []
        self.opened = self.closed = 0

    def triangles(self) -> torch.Tensor:
        return torch.tensor([[0, 1, 2], [1, 3, 2]])

    @contextmanager
    def open(self) -> Iterator[Finder]:
        self.opened += 1
        try:
            yield self.find
        finally:
            self.closed += 1

    def find(self, image: np.ndarray) -> list[np.ndarray]:
        self.seen.append(image)
        faces = []
        for value in np.unique(image[..., 0][image[..., 0] > 0]):
            rows, columns = np.nonzero(image[..., 0] == value)
            left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            corners = [(x, y, 0) for y in (top, bottom) for x in (left, right)]
            faces.append(np.array([*corners, ((left + right) / 2, (top + bottom) / 2, -50)], float))
        return faces


def picture(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 50)) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes):
        image[top:bottom, left:right] = 50 * (number + 1)
    return image


ONE = picture((5, 10, 25, 30))
TWO = picture((2, 2, 8, 8), (20, 5, 45, 35))
NONE = picture()


def test_mesh_of_arrays_in_pixels_with_hidden_vertex() -> None:
    mesh = Rectangles()([ONE, TWO])
    assert isinstance(mesh, FaceMesh) and len(mesh) == 2
    assert mesh.image_size == (40, 50) and mesh.topology == "rectangle"
    assert mesh.vertices.dtype == torch.float32 and mesh.image_index is None
    torch.testing.assert_close(mesh.boxes, torch.tensor([[5.0, 10, 25, 30], [20, 5, 45, 35]]))
    assert mesh.visible.tolist() == [[True] * 4 + [False]] * 2


def test_tensors_of_every_kind_give_the_same_images() -> None:
    aligner = Rectangles(denormalize=((0.4, 0.5, 0.6), 0.25))
    bytes_ = torch.from_numpy(np.stack([ONE, TWO])).permute(0, 3, 1, 2)
    normalised = (bytes_ / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.25
    expected = Rectangles()([ONE, TWO])
    for images in (bytes_, normalised, np.stack([ONE, TWO])):
        torch.testing.assert_close(aligner(images).vertices, expected.vertices)
    torch.testing.assert_close(Rectangles()(bytes_ / 255).vertices, expected.vertices)
    torch.testing.assert_close(Rectangles()(ONE).vertices, expected.vertices[:1])
    assert all(image.dtype == np.uint8 and image.shape == (40, 50, 3) for image in aligner.seen)


def test_missing_face_is_an_error_that_names_the_image() -> None:
    aligner = Rectangles()
    with pytest.raises(NoFaceError, match=r"2 of 3 images: 1 \(b.jpg\), 2 \(c.jpg\)"):
        aligner([ONE, NONE, NONE], names=["a.jpg", "b.jpg", "c.jpg"])
    with pytest.raises(NoFaceError, match=r"1 of 2 images: 0[.]"):
        aligner([NONE, ONE])
    assert aligner.opened == aligner.closed == 2


def test_skipped_face_keeps_its_row() -> None:
    mesh = Rectangles(on_missing="skip")([NONE, ONE, NONE])
    assert len(mesh) == 3 and mesh.missing == (0, 2)
    assert not mesh.visible[0].any() and mesh.visible[1].any()
    assert (mesh.vertices[0] == 0).all()
    torch.testing.assert_close(mesh.boxes[1], torch.tensor([5.0, 10, 25, 30]))
    assert Rectangles(on_missing="skip")([NONE]).missing == (0,)


def test_all_faces_are_rows_largest_first_with_their_image() -> None:
    mesh = Rectangles(face="all", on_missing="skip")([TWO, NONE, ONE])
    assert mesh.image_index is not None and mesh.image_index.tolist() == [0, 0, 1, 2]
    assert mesh.missing == (2,)
    torch.testing.assert_close(mesh.boxes[:2], torch.tensor([[20.0, 5, 45, 35], [2, 2, 8, 8]]))


def test_images_of_different_sizes_are_an_error() -> None:
    with pytest.raises(AlignmentError, match=r"40x50, 60x50.*one by one"):
        Rectangles()([ONE, picture(size=(60, 50))])
    with pytest.raises(AlignmentError, match="no images"):
        Rectangles()([])


def test_empty_tensor_gives_an_empty_mesh() -> None:
    mesh = Rectangles()(torch.zeros(0, 3, 40, 50))
    assert len(mesh) == 0 and mesh.num_vertices == 5 and mesh.image_size == (40, 50)


def test_inputs_and_random_state_are_unchanged() -> None:
    images = torch.from_numpy(np.stack([ONE, TWO])).permute(0, 3, 1, 2) / 255
    before, state = images.clone(), torch.get_rng_state()
    Rectangles()(images.requires_grad_())
    torch.testing.assert_close(images.detach(), before, rtol=0, atol=0)
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


@pytest.mark.parametrize("argument", [{"on_missing": "ignore"}, {"face": "biggest"}])
def test_unknown_words_are_errors(argument: dict[str, str]) -> None:
    with pytest.raises(CanonicalError, match=r"'raise' or 'skip'|'largest' or 'central' or 'surest' or 'all'"):
        Rectangles(**argument)
