"""Converting photographs, and cutting boxes and faces out of them so that a mesh can follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_canonical.errors import AlignmentError, CanonicalError, NoFaceError
from captum_canonical.faces.images import crop_photo, crop_to_face, to_arrays, to_tensor
from captum_canonical.faces.mesh import FaceMesh


# ------------------------------------------------------------------------------------------ arrays and tensors
def test_arrays_to_tensor_and_back_is_the_identity(colours: np.ndarray) -> None:
    tensor = to_tensor([colours, 255 - colours])
    assert tensor.shape == (2, 3, 6, 9) and tensor.dtype == torch.float32
    assert tensor[0, 2, 4, 7].item() == pytest.approx(colours[4, 7, 2] / 255)
    for image in (tensor, tensor.double(), (tensor * 255).round().to(torch.uint8)):
        np.testing.assert_array_equal(to_arrays(image)[0], colours)
        np.testing.assert_array_equal(to_arrays(image)[1], 255 - colours)


def test_normalisation_is_undone_and_the_tensor_stays(colours: np.ndarray) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalised = (to_tensor([colours]) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    before = normalised.clone()
    np.testing.assert_array_equal(to_arrays(normalised, (mean, std))[0], colours)
    torch.testing.assert_close(normalised, before, rtol=0, atol=0)
    np.testing.assert_array_equal(to_arrays(normalised, (torch.tensor(mean), list(std)))[0], colours)
    np.testing.assert_array_equal(to_arrays(to_tensor([colours]) * 2 - 1, (0.5, 0.5))[0], colours)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_but_is_no_error(dtype: torch.dtype) -> None:
    ramp = torch.linspace(0, 1, 256).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    got = to_arrays(((ramp - 0.449) / 0.226).to(dtype), (0.449, 0.226))[0]
    assert np.abs(got[..., 0].astype(float) / 255 - ramp[0, 0].numpy()).max() < 0.01


def test_grey_is_repeated_over_the_channels() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for given in (grey, [grey], torch.from_numpy(grey)[None, None], torch.from_numpy(grey / 255.0)[None, None]):
        np.testing.assert_array_equal(to_arrays(given)[0], grey[..., None].repeat(3, 2))


def test_what_interpolation_leaves_outside_0_1_is_tolerated() -> None:
    edge = torch.tensor([-5e-4, 1 + 5e-4]).view(1, 1, 1, 2)
    assert to_arrays(edge)[0][0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((1, 3, 2, 2), 1.002), "0..1, got 1.002.*denormalize"),
        (torch.full((1, 3, 2, 2), -0.002), "0..1, got -0.002"),
        (torch.full((1, 3, 2, 2), 255.0), "division by 255"),
        (torch.full((1, 3, 2, 2), float("nan")), "NaN"),
        (torch.rand(3, 2, 2), r"\(B, 3, H, W\).*\(3, 2, 2\)"),
        (torch.rand(1, 2, 2, 3), r"\(1, 2, 2, 3\)"),
        (torch.ones(1, 3, 2, 2, dtype=torch.int64), "int64"),
        ([np.zeros((2, 2, 3))], "image 0: .*float64"),
        ([np.zeros((2, 2, 4), np.uint8)], r"\(2, 2, 4\)"),
        ([np.zeros((0, 2, 3), np.uint8)], r"\(0, 2, 3\)"),
        ([torch.rand(3, 2, 2)], "image 0: .*Tensor"),
        ("photo.jpg", "got str.*read_photo"),
        (["photo.jpg"], "image 0: .*str.*read_photo"),
        (None, "NoneType"),
    ],
)
def test_other_images_are_errors(images: object, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        to_arrays(images)  # type: ignore[arg-type]


def test_wrong_normalisation_is_an_error() -> None:
    with pytest.raises(CanonicalError, match="mean or std is not the model's"):
        to_arrays(torch.rand(1, 3, 2, 2), (100.0, 50.0))
    with pytest.raises(CanonicalError, match="each of 3 channels"):
        to_arrays(torch.rand(1, 3, 2, 2), ((0.5, 0.5), 0.5))


def test_images_of_different_sizes_need_a_size(colours: np.ndarray) -> None:
    with pytest.raises(CanonicalError, match="one size"):
        to_tensor([colours, colours[:4]])
    assert to_tensor([colours, colours[:4]], size=(5, 7)).shape == (2, 3, 5, 7)


# ---------------------------------------------------------------------------------------------------- cutting
def crop_slowly(image: np.ndarray, box: tuple, size: tuple[int, int], fill: float | None) -> np.ndarray:
    """The definition, pixel by pixel: the mean over a window as large as the new pixel, at least one old one."""
    left, top, right, bottom = box
    steps = ((bottom - top) / size[0], (right - left) / size[1])
    out = np.zeros((*size, 3))
    for row in range(size[0]):
        for column in range(size[1]):
            total = np.zeros(3)
            centre = (top + (row + 0.5) * steps[0], left + (column + 0.5) * steps[1])
            spans = [(c - max(s, 1) / 2, c + max(s, 1) / 2) for c, s in zip(centre, steps, strict=True)]
            area = (spans[0][1] - spans[0][0]) * (spans[1][1] - spans[1][0])
            for r in range(int(np.floor(spans[0][0])), int(np.ceil(spans[0][1]))):
                for c in range(int(np.floor(spans[1][0])), int(np.ceil(spans[1][1]))):
                    share = (min(r + 1, spans[0][1]) - max(r, spans[0][0])) * (
                        min(c + 1, spans[1][1]) - max(c, spans[1][0])
                    )
                    inside = 0 <= r < image.shape[0] and 0 <= c < image.shape[1]
                    if inside or fill is None:
                        value = image[np.clip(r, 0, image.shape[0] - 1), np.clip(c, 0, image.shape[1] - 1)]
                    else:
                        value = np.full(3, fill)
                    total += share * value
            out[row, column] = total / area
    return out


@pytest.mark.parametrize("fill", [None, 30.0])
@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 9, 6), (6, 9)),
        ((1.3, 0.6, 7.1, 5.2), (4, 3)),
        ((2.25, 1.5, 4.75, 3.5), (7, 5)),
        ((-4.5, -3.2, 11.7, 8.8), (5, 8)),
        ((20, 20, 26, 24), (2, 3)),
        ((-30, 2, -20, 3), (2, 2)),
    ],
)
def test_crop_equals_the_pixel_loop(colours: np.ndarray, box: tuple, size: tuple[int, int], fill: float | None) -> None:
    expected = crop_slowly(colours, box, size, fill)
    got = crop_photo(colours, box, size, "edge" if fill is None else fill)
    assert got.shape == (*size, 3) and got.dtype == np.uint8
    np.testing.assert_allclose(got, expected, atol=0.5 + 1e-3)


def test_whole_photo_at_its_own_size_is_unchanged(colours: np.ndarray) -> None:
    before = colours.copy()
    np.testing.assert_array_equal(crop_photo(colours, (0, 0, 9, 6), (6, 9)), colours)
    np.testing.assert_array_equal(crop_photo(colours, (2, 1, 6, 4), (3, 4)), colours[1:4, 2:6])
    np.testing.assert_array_equal(colours, before)


def test_beyond_the_photo_is_the_edge_or_the_colour(colours: np.ndarray) -> None:
    edge = crop_photo(colours, (-3, -2, 12, 8), (10, 15))
    np.testing.assert_array_equal(edge, np.pad(colours, ((2, 2), (3, 3), (0, 0)), mode="edge"))
    filled = crop_photo(colours, (-3, -2, 12, 8), (10, 15), fill=(10, 20, 30))
    np.testing.assert_array_equal(filled[2:8, 3:12], colours)
    np.testing.assert_array_equal(filled[0, 0], [10, 20, 30])


def test_crop_commutes_with_a_flip(colours: np.ndarray) -> None:
    straight = crop_photo(colours, (1.25, 0.5, 7.75, 4.5), (5, 7))
    flipped = crop_photo(colours[:, ::-1], (9 - 7.75, 0.5, 9 - 1.25, 4.5), (5, 7))
    np.testing.assert_allclose(flipped[:, ::-1].astype(int), straight.astype(int), atol=1)


@pytest.mark.parametrize("size", [(40, 60), (96, 64), (300, 250)])
def test_a_drawn_disc_lands_where_the_mesh_says(size: tuple[int, int]) -> None:
    centre, radius = np.array([61.3, 47.8]), 9.0
    fine = (np.arange(0, 160 * 8) + 0.5) / 8
    inside = (fine[None, : 120 * 8] - centre[1]) ** 2 + (fine[:, None] - centre[0]) ** 2 <= radius**2
    drawn = inside.T.reshape(120, 8, 160, 8).mean((1, 3))
    photo = np.rint(255 * drawn).astype(np.uint8)[..., None].repeat(3, 2)
    left, top, width, height = 31.4, -12.7, 71, 93
    crop = crop_photo(photo, (left, top, left + width, top + height), size)[..., 0].astype(float)
    rows, columns = np.indices(crop.shape) + 0.5
    mesh = FaceMesh(torch.tensor([[[*centre, 0.0]]], dtype=torch.float64), image_size=(120, 160))
    x, y, _ = mesh.cropped(left, top, width, height).resized(size).vertices[0, 0].tolist()
    assert (columns * crop).sum() / crop.sum() == pytest.approx(x, abs=0.02 * size[1] / width)
    assert (rows * crop).sum() / crop.sum() == pytest.approx(y, abs=0.02 * size[0] / height)


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    shrunk = crop_photo(stripes, (0, 0, 64, 64), (16, 16))
    assert shrunk.min() >= 127 and shrunk.max() <= 128


def test_a_huge_box_needs_no_huge_memory(colours: np.ndarray) -> None:
    far = crop_photo(colours, (-1e7, -1e7, 1e7, 1e7), (3, 3), fill=77)
    assert (far == 77).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((5, 0, 5, 4), (2, 2)), "right > left"),
        (((0, 4, 5, 2), (2, 2)), "bottom > top"),
        (((0, 0, float("nan"), 2), (2, 2)), "finite"),
        (((0, 0, 2), (2, 2)), "left, top, right, bottom"),
        (((0, 0, 2, 2), (0, 2)), "at least one pixel"),
        (((0, 0, 2, 2), (2, 2), "mirror"), "mirror"),
    ],
)
def test_bad_boxes_are_errors(colours: np.ndarray, arguments: tuple, message: str) -> None:
    with pytest.raises(CanonicalError, match=message):
        crop_photo(colours, *arguments)


# ---------------------------------------------------------------------------------------------------- a face
def rectangle(left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, FaceMesh]:
    """A photo of 60 x 47 pixels with a rectangle in it, and the mesh of its corners."""
    photo = np.zeros((60, 47, 3), np.uint8)
    photo[top:bottom, left:right] = 50
    corners = torch.tensor([[[x, y, 0.0] for y in (top, bottom) for x in (left, right)]])
    return photo, FaceMesh(corners, image_size=(60, 47), topology="rectangle")


@pytest.mark.parametrize(("margin", "size"), [(0.0, 64), (0.25, 90), (1.5, (60, 90)), (0.3, (31, 17))])
def test_cropped_face_and_its_mesh_stay_together(margin: float, size: int | tuple[int, int]) -> None:
    photo, mesh = rectangle(14, 9, 31, 33)
    photo_before = photo.copy()
    crop, moved = crop_to_face(photo, mesh, margin, size, fill=0)
    height, width = (size, size) if isinstance(size, int) else size
    assert crop.shape == (height, width, 3) and crop.dtype == np.uint8
    assert moved.image_size == (height, width) and moved.topology == "rectangle"
    rows, columns = np.indices(crop.shape[:2]) + 0.5
    weight = crop[..., 0].astype(float) / crop[..., 0].sum()
    left, top, right, bottom = moved.boxes[0].tolist()
    # In the middle of the crop, both in the mesh and in the pixels, and as large as the margin says.
    assert (left + right) / 2 == pytest.approx(width / 2, abs=1e-3) == (columns * weight).sum()
    assert (top + bottom) / 2 == pytest.approx(height / 2, abs=1e-3)
    assert (rows * weight).sum() == pytest.approx(height / 2, abs=0.05)
    assert (bottom - top) * (1 + 2 * margin) == pytest.approx(min(height, width), rel=0.06)
    assert crop[..., 0].sum() / 50 == pytest.approx((right - left) * (bottom - top), rel=0.02)
    np.testing.assert_array_equal(photo, photo_before)


def test_crop_to_face_refuses_other_meshes() -> None:
    photo, mesh = rectangle(14, 9, 31, 33)
    absent = FaceMesh(mesh.vertices, image_size=(60, 47), found=torch.tensor([False]))
    with pytest.raises(AlignmentError, match="2 rows"):
        crop_to_face(photo, FaceMesh.cat([mesh, mesh]))
    with pytest.raises(AlignmentError, match=r"\(50, 47\)"):
        crop_to_face(photo[:50], mesh)
    with pytest.raises(NoFaceError):
        crop_to_face(photo, absent)
    with pytest.raises(AlignmentError, match="margin"):
        crop_to_face(photo, mesh, margin=-0.1)
