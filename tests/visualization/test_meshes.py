"""Meshes on photographs, and the sheet of doubtful faces: what is drawn where, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from captum_canonical import AlignedFaces, CanonicalFace, FaceMesh
from captum_canonical.errors import CanonicalError, NoFaceError
from captum_canonical.visualization import contact_sheet, show_mesh
from captum_canonical.visualization.contact_sheet import doubt_of
from captum_canonical.visualization.meshes import HIDDEN, SEEN
from face_tools import mesh_of
from figure_tools import drawn

FACE_SIZE = 112
PHOTO = np.full((112, 112, 3), 128, np.uint8)


def lines(figure: Figure, colour: str) -> set[tuple[tuple[float, ...], ...]]:
    """The lines of one colour, each as its two ends."""
    found = set()
    for each in figure.axes[0].collections:
        if isinstance(each, LineCollection) and to_hex(each.get_colors()[0]) == colour:
            found |= {tuple(sorted(map(tuple, ends.round(6).tolist()))) for ends in each.get_segments()}
    return found


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_each_edge_is_seen_or_hidden(face: CanonicalFace) -> None:
    visible = torch.rand(1, 468, generator=torch.Generator().manual_seed(0)) < 0.8
    mesh = FaceMesh(face.vertices[None], visible, face.size, face.topology)
    figure = drawn(show_mesh(PHOTO, mesh))
    expected: dict[bool, set[tuple[tuple[float, ...], ...]]] = {True: set(), False: set()}
    places = face.vertices[:, :2].numpy().round(6)
    for triangle in face.triangles.tolist():
        for start, end in ((0, 1), (1, 2), (2, 0)):
            pair = [triangle[start], triangle[end]]
            ends = tuple(sorted(tuple(places[vertex].tolist()) for vertex in pair))
            expected[bool(visible[0, pair].all())].add(ends)
    assert lines(figure, SEEN) == expected[True] and lines(figure, HIDDEN) == expected[False]
    dots = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    assert len(dots) == 1 and to_hex(dots[0].get_facecolor()[0]) == HIDDEN
    np.testing.assert_allclose(dots[0].get_offsets(), face.vertices[~visible[0], :2])
    seen = int(visible.sum())
    assert labels(figure) == [f"seen ({seen} of 468 vertices)", f"hidden ({468 - seen})"]


def test_regions_are_filled_where_they_are_seen(face: CanonicalFace) -> None:
    visible = torch.ones(1, 468, dtype=torch.bool)
    chin = face.triangles[face.regions["chin"]]
    visible[0, chin[0]] = False
    figure = show_mesh(
        PHOTO, FaceMesh(face.vertices[None], visible, face.size, face.topology), regions=["chin", "nose_tip"]
    )
    filled = [each for each in figure.axes[0].collections if isinstance(each, PolyCollection)]
    shown = [triangle for triangle in chin.tolist() if visible[0, triangle].all()]
    assert 0 < len(shown) < len(chin) and len(filled) == 2
    corners = np.stack([path.vertices[:3] for path in filled[0].get_paths()])
    np.testing.assert_allclose(corners, face.vertices[shown][..., :2])
    assert labels(figure)[2:] == ["chin", "nose_tip"]
    everything = drawn(show_mesh(PHOTO, mesh_of(face), regions=True))
    numbered = [f"{number}  {name}" for number, name in enumerate(face.regions, 1)]
    assert labels(everything)[1:] == numbered
    with pytest.raises(CanonicalError, match=r"expected some of forehead, .* got ear"):
        show_mesh(PHOTO, mesh_of(face), regions=["chin", "ear"])


def test_several_faces_and_rows_without_one(face: CanonicalFace) -> None:
    mesh = mesh_of(face, moved=[(-30.0, 0.0), (0.0, 0.0), (30.0, 0.0)], scale=0.4)
    found = FaceMesh(mesh.vertices, image_size=mesh.image_size, found=torch.tensor([True, False, True]))
    alone = lines(show_mesh(PHOTO, mesh[0]), SEEN)
    both = lines(show_mesh(PHOTO, found), SEEN)
    assert alone < both and len(both) == 2 * len(alone)
    assert labels(show_mesh(PHOTO, found)) == ["seen (936 of 936 vertices of 2 faces)"]
    nobody = FaceMesh(mesh.vertices[:1], image_size=mesh.image_size, found=torch.tensor([False]))
    assert lines(drawn(show_mesh(PHOTO, nobody)), SEEN) == set()
    several = FaceMesh(mesh.vertices, image_size=mesh.image_size, image_index=torch.tensor([0, 0, 1]))
    assert show_mesh(PHOTO, several[:2])
    with pytest.raises(CanonicalError, match="faces of one photograph"):
        show_mesh(PHOTO, several)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("batched", [False, True])
def test_vertices_of_any_kind(face: CanonicalFace, dims: int, batched: bool) -> None:
    vertices = face.vertices[:, :dims]
    given = vertices[None].numpy() if batched else vertices
    assert lines(show_mesh(torch.rand(3, 112, 112), given), SEEN) == lines(show_mesh(PHOTO, mesh_of(face)), SEEN)
    square = torch.tensor([[10.0, 10], [90, 10], [10, 90], [95, 95]])[:, : min(dims, 2)]
    own = show_mesh(PHOTO, square)  # no face that we know: Delaunay's triangles, and a dot for each vertex
    assert len(lines(own, SEEN)) == 5
    corners = CanonicalFace.from_vertices(PHOTO, square, torch.tensor([[0, 1, 2]]))
    assert len(lines(show_mesh(PHOTO, square, corners), SEEN)) == 3


@pytest.mark.parametrize("faces", [None, torch.rand(4), torch.rand(2, 3, 4, 2), torch.rand(5, 4)])
def test_what_is_no_mesh(faces: torch.Tensor | None) -> None:
    with pytest.raises(CanonicalError, match="show_mesh: expected a FaceMesh or vertices"):
        show_mesh(PHOTO, faces)


def test_a_mesh_of_another_photograph(face: CanonicalFace) -> None:
    with pytest.raises(CanonicalError, match=r"\(50, 60\), got one for \(112, 112\)"):
        show_mesh(np.zeros((50, 60, 3), np.uint8), mesh_of(face))


def test_what_lies_beyond_the_photograph_is_shown(face: CanonicalFace) -> None:
    axis = show_mesh(PHOTO, mesh_of(face, moved=[(-40.0, 60.0)])).axes[0]
    box = mesh_of(face, moved=[(-40.0, 60.0)]).boxes[0].tolist()
    assert axis.get_xlim() == pytest.approx((box[0], 112)) and axis.get_ylim() == pytest.approx((box[3], 0))
    far = show_mesh(PHOTO, mesh_of(face, moved=[(-4000.0, 0.0)])).axes[0]
    assert far.get_xlim() == (-56, 112)  # a mesh that went astray leaves something of the photograph to be seen


def test_a_record_is_the_networks_input(face: CanonicalFace, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (112, 112, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    data = AlignedFaces(tmp_path, faces=mesh_of(face), crop="arcface", mean=0.5, std=0.25)
    record = data[0]
    figure = show_mesh(record, denormalize=(0.5, 0.25))
    picture = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(picture, (record.image * 0.25 + 0.5).permute(1, 2, 0), atol=0.005)
    places = record.faces.vertices[0, :, :2].numpy()
    drawn_places = np.array([place for ends in lines(figure, SEEN) for place in ends])
    assert {tuple(place) for place in drawn_places.round(3)} <= {
        tuple(place) for place in places.round(3).astype(float)
    }
    with pytest.raises(CanonicalError, match="normalisation"):
        show_mesh(record)
    photo, mesh = data.photo_and_mesh(0)
    assert lines(show_mesh(photo, mesh), SEEN) == lines(show_mesh(PHOTO, mesh_of(face)), SEEN)
    with pytest.raises(CanonicalError, match="place 5"):
        data.photo_and_mesh(5)


# ------------------------------------------------------------------------------------------------ the sheet
def turned(face: CanonicalFace, degrees: float) -> FaceMesh:
    """The face looking to one side."""
    angle = np.radians(degrees)
    turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    middle = torch.tensor([56.0, 56.0, 0.0], dtype=torch.float64)
    return FaceMesh(((face.vertices - middle) @ turn.T + middle)[None], image_size=face.size, topology=face.topology)


def test_doubts_are_those_of_the_mesh(face: CanonicalFace) -> None:
    good = doubt_of(0, mesh_of(face))
    assert good.degree < 1 and set(good.measures) == {"0% outside", f"{_side(face):.0f} px", "yaw 0°", "pitch 0°"}
    assert doubt_of(0, turned(face, 50)).text == "yaw 50°" and doubt_of(0, turned(face, 50)).degree == pytest.approx(
        50 / 45
    )
    away = mesh_of(face, moved=[(-56.0, 0.0)])
    share = float((away.vertices[0, :, 0] < 0).double().mean())
    assert doubt_of(0, away).text == f"{share:.0%} outside" and doubt_of(0, away).degree == pytest.approx(share / 0.1)
    small = doubt_of(0, mesh_of(face, scale=0.25))
    assert small.text == f"{_side(face) / 4:.0f} px" and small.degree == pytest.approx(64 / (_side(face) / 4))
    both = mesh_of(face, scale=0.25, moved=[(-56.0, 0.0)])
    assert doubt_of(0, both).text.endswith("px") and "outside" in doubt_of(0, both).text
    grid = FaceMesh(torch.rand(1, 9, 3) * 100, image_size=(100, 100), topology="corners-9")
    assert len(doubt_of(0, grid).measures) == 2  # no pose is known of it


def _side(face: CanonicalFace) -> float:
    box = mesh_of(face).boxes[0]
    return float((box[2:] - box[:2]).max())


@pytest.fixture
def data(face: CanonicalFace, tmp_path: Path) -> AlignedFaces:
    """Six photographs: a good one, three that are ever more turned, one without a face, and one that is none."""
    angles = {"1.png": 0.0, "2 $x$.png": 30.0, "3.png": 60.0, "4.png": 45.0}
    for name in (*angles, "5.png"):
        Image.fromarray(PHOTO).save(tmp_path / name)
    (tmp_path / "6.png").write_text("no photograph")

    def find(path: Path) -> FaceMesh:
        if path.name not in angles:
            raise NoFaceError("nobody there")
        return turned(face, angles[path.name])

    with pytest.warns(UserWarning, match="2 of 6 photographs are left out"):
        return AlignedFaces(tmp_path, faces=find, size=64).align()


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.axison]


def test_the_worst_come_first_and_the_left_out_last(data: AlignedFaces) -> None:
    figure = drawn(contact_sheet(data))
    assert figure.get_suptitle() == "6 photographs: all 4 faces, the most doubtful first, then the 2 left out"
    expected = ["3.png\nyaw 60°", "4.png\nyaw 45°", "2 $x$.png\nyaw 30°", "1.png\n57% of 64 px"]
    assert titles(figure)[:3] == expected[:3] and titles(figure)[4:] == ["5.png\nno face", "6.png\nunreadable"]
    notes = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert len(notes) == 1 and "not an image" in notes[0].replace("\n", " ")
    assert figure.axes[4].get_xlabel() == "the aligner found no face."
    tiles = [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.axison]
    assert {tile.shape for tile in tiles} == {(192, 192, 3)}


def test_a_sheet_has_as_many_tiles_as_asked_for(data: AlignedFaces) -> None:
    figure = drawn(contact_sheet(data, 3, columns=2, title="mine"))
    assert [title.split("\n")[0] for title in titles(figure)] == ["3.png", "4.png", "5.png"]
    assert figure.get_suptitle() == "mine"
    one = contact_sheet(data, 2)
    assert [title.split("\n")[0] for title in titles(one)] == ["3.png", "4.png"]
    for arguments in ({"limit": 0}, {"columns": 0}):
        with pytest.raises(CanonicalError, match=next(iter(arguments))):
            contact_sheet(data, **arguments)


def test_a_file_that_went_away_and_nobody_at_all(data: AlignedFaces, tmp_path: Path) -> None:
    (tmp_path / "3.png").unlink()
    notes = [text.get_text() for axis in contact_sheet(data).axes for text in axis.texts]
    assert "the file has changed" in notes
    (tmp_path / "none").mkdir()
    Image.fromarray(PHOTO).save(tmp_path / "none" / "a.png")
    with pytest.warns(UserWarning, match="left out"):
        figure = drawn(contact_sheet(AlignedFaces(tmp_path / "none", faces=_nobody, size=8)))
    assert figure.get_suptitle() == "1 photograph: the 1 left out" and labels(figure) == []


def _nobody(path: Path) -> FaceMesh:
    raise NoFaceError(str(path))
