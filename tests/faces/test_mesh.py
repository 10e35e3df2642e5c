"""FaceMesh: what it accepts, and that every change of the picture moves the vertices with the pixels."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from captum_canonical import AlignmentError, CanonicalError, CanonicalFace, FaceMesh


def mesh(rows: int = 3, points: int = 5, size: tuple[int, int] = (20, 30), **fields: object) -> FaceMesh:
    vertices = torch.rand(rows, points, 3) * torch.tensor([size[1], size[0], 4.0])
    return FaceMesh(vertices, **({"image_size": size} | fields))


def marked(place: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, 1, H, W) a picture in which the pixel that holds the place (x, y) is 1."""
    picture = torch.zeros(1, 1, *size)
    picture[0, 0, int(place[1]), int(place[0])] = 1.0
    return picture


# ------------------------------------------------------------------------------------------------------------- making
def test_defaults() -> None:
    faces = FaceMesh(torch.rand(2, 5, 3), image_size=[20, 30])
    assert faces.visible.all()
    assert faces.visible.shape == (2, 5)
    assert faces.found.all()
    assert faces.missing == ()
    assert faces.image_index is None
    assert faces.topology is None
    assert faces.image_size == (20, 30)
    assert len(faces) == 2
    assert faces.num_vertices == 5


def test_no_rows_are_allowed() -> None:
    faces = FaceMesh(torch.zeros(0, 5, 3), image_size=(4, 4))
    assert len(faces) == 0
    assert faces.missing == ()


def test_nothing_is_seen_where_no_face_was_found() -> None:
    faces = mesh(3, found=torch.tensor([True, False, True]), visible=torch.ones(3, 5, dtype=torch.bool))
    assert faces.missing == (1,)
    assert faces.visible.any(1).tolist() == [True, False, True]


@pytest.mark.parametrize("vertices", [torch.rand(5, 3), torch.rand(2, 5, 2), torch.rand(2, 0, 3), torch.rand(2, 5, 4)])
def test_wrong_shapes_are_refused(vertices: Tensor) -> None:
    with pytest.raises(AlignmentError, match=r"\(B, N, 3\)") as caught:
        FaceMesh(vertices, image_size=(4, 4))
    assert str(tuple(vertices.shape)) in str(caught.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_vertices_are_refused_and_the_row_is_named(bad: float) -> None:
    vertices = torch.rand(4, 5, 3)
    vertices[2, 3, 1] = bad
    with pytest.raises(AlignmentError, match=r"\[2\]"):
        FaceMesh(vertices, image_size=(4, 4))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"visible": torch.ones(2, 4, dtype=torch.bool)}, "visible"),
        ({"visible": torch.ones(2, 5)}, "visible.*bool"),
        ({"found": torch.ones(3, dtype=torch.bool)}, "found"),
        ({"found": torch.ones(2, dtype=torch.int64)}, "found.*bool"),
        ({"image_index": torch.tensor([0])}, "image_index"),
        ({"image_index": torch.tensor([0.0, 1.0])}, "image_index"),
        ({"image_index": torch.tensor([True, False])}, "image_index"),
        ({"image_size": None}, "image_size"),
        ({"image_size": 224}, "image_size"),
        ({"image_size": (3, 20, 30)}, "image_size"),
        ({"image_size": (0, 30)}, "image_size"),
        ({"image_size": ("a", "b")}, "image_size"),
    ],
)
def test_wrong_fields_are_refused(fields: dict, match: str) -> None:
    with pytest.raises(AlignmentError, match=match):
        mesh(2, **fields)


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(AlignmentError, match="int64"):
        FaceMesh(torch.zeros(1, 5, 3, dtype=torch.int64), image_size=(4, 4))


def test_errors_are_value_errors_of_the_package() -> None:
    assert issubclass(AlignmentError, CanonicalError)
    assert issubclass(CanonicalError, ValueError)


def test_is_frozen() -> None:
    faces = mesh()
    with pytest.raises(dataclasses.FrozenInstanceError):
        faces.vertices = torch.zeros(1, 5, 3)  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------------ choosing rows
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, [1]),
        (-1, [3]),
        (slice(1, None), [1, 2, 3]),
        (slice(None, None, -2), [3, 1]),
        ([2, 0, 2], [2, 0, 2]),
        (torch.tensor([3, 1]), [3, 1]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        ([False, True, False, False], [1]),
        (torch.tensor(2), [2]),
        (slice(4, None), []),
    ],
)
def test_rows(rows: object, expected: list[int]) -> None:
    faces = mesh(
        4,
        visible=torch.rand(4, 5) > 0.5,
        found=torch.tensor([True, True, False, True]),
        image_index=torch.tensor([0, 0, 1, 5]),
        topology="five",
    )
    chosen = faces[rows]
    assert_close(chosen.vertices, faces.vertices[expected])
    assert torch.equal(chosen.visible, faces.visible[expected])
    assert torch.equal(chosen.found, faces.found[expected])
    assert torch.equal(chosen.image_index, faces.image_index[expected])
    assert (chosen.topology, chosen.image_size) == ("five", (20, 30))


@pytest.mark.parametrize("rows", [4, -5, [0, 4], torch.tensor([True, False])])
def test_rows_beyond_the_ends(rows: object) -> None:
    with pytest.raises(IndexError):
        mesh(4)[rows]


def test_iterating_ends() -> None:
    assert [len(one) for one in mesh(3)] == [1, 1, 1]


def test_found_selects_the_faces() -> None:
    faces = mesh(3, found=torch.tensor([True, False, True]))
    assert faces[faces.found].missing == ()
    assert_close(faces[faces.found].vertices, faces.vertices[[0, 2]])


def test_repeat_interleave_keeps_copies_side_by_side() -> None:
    faces = mesh(2, visible=torch.rand(2, 5) > 0.5)
    repeated = faces.repeat_interleave(3)
    assert_close(repeated.vertices, faces.vertices.repeat_interleave(3, 0))
    assert torch.equal(repeated.visible, faces.visible[[0, 0, 0, 1, 1, 1]])


# -------------------------------------------------------------------------------------------- changes of the picture
def test_resized() -> None:
    faces = FaceMesh(torch.tensor([[[3.0, 8.0, 2.0]]]), image_size=(20, 30))
    larger = faces.resized((40, 45))
    assert larger.image_size == (40, 45)
    assert larger.vertices.flatten().tolist() == [4.5, 16.0, pytest.approx(2 * (1.5 + 2) / 2)]
    assert_close(larger.resized((20, 30)).vertices[..., :2], faces.vertices[..., :2])


def test_resized_follows_the_pixels() -> None:
    """Nearest-neighbour enlargement by a whole factor: the vertex stays in the marked pixel."""
    place = torch.tensor([7.3, 11.8])
    faces = FaceMesh(torch.tensor([[[*place, 0.0]]]), image_size=(20, 30)).resized((60, 120))
    large = torch.nn.functional.interpolate(marked(place, (20, 30)), (60, 120), mode="nearest")
    x, y = faces.vertices[0, 0, :2].long().tolist()
    assert large[0, 0, y, x] == 1


def test_cropped_follows_the_pixels() -> None:
    place = torch.tensor([17.3, 11.8])
    picture = marked(place, (20, 30))[..., 5:15, 10:29]
    faces = FaceMesh(torch.tensor([[[*place, 3.0]]]), image_size=(20, 30)).cropped(left=10, top=5, width=19, height=10)
    assert faces.image_size == tuple(picture.shape[-2:]) == (10, 19)
    x, y = faces.vertices[0, 0, :2].long().tolist()
    assert picture[0, 0, y, x] == 1
    assert faces.vertices[0, 0, 2] == 3.0


def test_cropped_may_reach_beyond_the_image() -> None:
    faces = mesh(1).cropped(left=-10, top=-2.5, width=60, height=40)
    assert faces.image_size == (40, 60)
    with pytest.raises(AlignmentError, match="image_size"):
        mesh(1).cropped(0, 0, 0, 5)


def test_flipped_follows_the_pixels() -> None:
    place = torch.tensor([7.3, 11.8])
    vertices = torch.tensor([[[*place, 1.0], [25.0, 11.0, 2.0], [15.0, 3.0, 5.0]]])
    faces = FaceMesh(vertices, torch.tensor([[True, False, True]]), image_size=(20, 30))
    flipped = faces.flipped(torch.tensor([1, 0, 2]))
    x, y = flipped.vertices[0, 1, :2].long().tolist()
    assert marked(place, (20, 30)).flip(-1)[0, 0, y, x] == 1
    assert flipped.visible.tolist() == [[False, True, True]]
    assert flipped.vertices[0, :, 2].tolist() == [2.0, 1.0, 5.0]
    assert_close(flipped.flipped(torch.tensor([1, 0, 2])).vertices, faces.vertices)


def test_flipping_the_shipped_face_changes_nothing() -> None:
    face = CanonicalFace.default(64)
    faces = FaceMesh(face.vertices[None], image_size=(64, 64), topology=face.topology)
    assert_close(faces.flipped(face.permutation).vertices, faces.vertices, atol=1e-4, rtol=0)


@pytest.mark.parametrize("permutation", [None, torch.arange(4), torch.zeros(5, 5)])
def test_flipped_needs_a_permutation_of_its_vertices(permutation: Tensor | None) -> None:
    with pytest.raises(AlignmentError, match=r"permutation of 5"):
        mesh().flipped(permutation)  # type: ignore[arg-type]


def test_boxes() -> None:
    faces = FaceMesh(torch.tensor([[[1.0, 2, 9], [4, 7, 9], [3, 1, 9]]]), image_size=(9, 9))
    assert faces.boxes.tolist() == [[1, 1, 4, 7]]


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.resized((9, 9)),
        lambda m: m.cropped(1, 2, 3, 4),
        lambda m: m.flipped(torch.tensor([1, 0, 2, 4, 3])),
        lambda m: m[[0, 2]],
        lambda m: m.repeat_interleave(2),
        lambda m: FaceMesh.cat([m, m]),
        lambda m: m.to("cpu"),
    ],
    ids=["resized", "cropped", "flipped", "rows", "repeat", "cat", "to"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_changes_leave_the_original_and_the_type_alone(
    change: Callable[[FaceMesh], FaceMesh], dtype: torch.dtype
) -> None:
    vertices = torch.rand(3, 5, 3, dtype=dtype)
    faces = FaceMesh(vertices, torch.rand(3, 5) > 0.5, (20, 30), "five", torch.tensor([True, False, True]))
    before = vertices.clone(), faces.visible.clone(), faces.found.clone()
    changed = change(faces)
    assert changed.vertices.dtype == dtype
    assert changed.topology == "five"
    assert len(changed.missing) == int((~changed.found).sum())
    assert_close(faces.vertices, before[0])
    assert torch.equal(faces.visible, before[1])
    assert torch.equal(faces.found, before[2])
    assert faces.image_size == (20, 30)


@pytest.mark.parametrize("again", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_for_workers_and_metrics(again: Callable[[FaceMesh], FaceMesh]) -> None:
    """Data loaders pickle meshes, captum.metrics copies them."""
    faces = mesh(2, found=torch.tensor([True, False]), image_index=torch.tensor([0, 3]), topology="five")
    other = again(faces)
    for name in ("vertices", "visible", "found", "image_index"):
        assert torch.equal(getattr(other, name), getattr(faces, name))
    assert (other.image_size, other.topology) == ((20, 30), "five")


# ---------------------------------------------------------------------------------------------------------------- cat
def test_cat() -> None:
    one, two = mesh(2, topology="t"), mesh(3, topology="t", found=torch.tensor([False, True, True]))
    both = FaceMesh.cat([one, two])
    assert_close(both.vertices, torch.cat([one.vertices, two.vertices]))
    assert both.missing == (2,)
    assert both.topology == "t"


def test_cat_goes_on_counting_images() -> None:
    one = mesh(3, image_index=torch.tensor([0, 0, 1]))
    two = mesh(2, image_index=torch.tensor([0, 2]))
    assert FaceMesh.cat([one, two, one]).image_index.tolist() == [0, 0, 1, 2, 4, 5, 5, 6]


@pytest.mark.parametrize(
    "other",
    [{"topology": "other"}, {"size": (21, 30)}, {"points": 6}, {"image_index": torch.tensor([0])}],
    ids=["topology", "size", "points", "image_index"],
)
def test_cat_refuses_what_does_not_fit_together(other: dict) -> None:
    with pytest.raises(AlignmentError, match=r"FaceMesh\.cat"):
        FaceMesh.cat([mesh(1), mesh(1, **other)])


def test_cat_of_nothing_is_refused() -> None:
    with pytest.raises(CanonicalError, match="cat"):
        FaceMesh.cat([])
