"""Label tables in the formats in which data sets circulate; all of these are made up, but for those in ../shared."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import pytest

import captum_canonical as cc
from captum_canonical.data import LabelTable, read_labels
from captum_canonical.data.fairface_ages import AGES, repaired_age
from captum_canonical.data.label_formats import RAF_DB
from captum_canonical.errors import CanonicalError
from dataset_tools import dataset, write_photos


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def groups(table: LabelTable) -> list[tuple]:
    return [tuple(row.groups.values()) for row in table]


# ---------------------------------------------------------------------------------------------------------- CelebA
CELEBA = """4
5_o_Clock_Shadow Male Smiling Young\x20
000001.jpg -1 -1  1  1
000002.jpg -1 -1 -1  1
000003.jpg  1  1 -1 -1
000004.jpg -1  1  1  1
"""
IDENTITIES = "000001.jpg 2880\n000002.jpg 2937\n000003.jpg 8692\n000004.jpg 2880\n"
PARTITIONS = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000004.jpg 2\n"


@pytest.fixture
def celeba(tmp_path: Path) -> Path:
    write(tmp_path / "list_attr_celeba.txt", CELEBA)
    write(tmp_path / "identity_CelebA.txt", IDENTITIES)
    write(tmp_path / "list_eval_partition.txt", PARTITIONS)
    paths = write_photos(tmp_path / "images", 4)
    for number, path in enumerate(paths, 1):
        path.rename(path.with_name(f"{number:06}.png"))  # the aligned and cropped ones are .png in one of the releases
    return tmp_path


def test_celeba_as_it_is_downloaded(celeba: Path) -> None:
    files = [celeba / name for name in ("list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt")]
    table = read_labels(files, target="Smiling", group=("Male", "Young"), root=celeba / "images")
    assert table.format == "celeba" and table.classes == ("not Smiling", "Smiling") and not table.missing
    assert set(table.columns) == {"5_o_Clock_Shadow", "Male", "Smiling", "Young", "identity", "partition"}
    assert groups(table) == [("Female", "Young"), ("Female", "Young"), ("Male", "not Young"), ("Male", "Young")]
    assert [row.group for row in table] == ["Female", "Female", "Male", "Male"]
    assert [row.identity for row in table] == ["2880", "2937", "8692", "2880"]
    assert [row.name for row in table] == [f"{number:06}.jpg" for number in range(1, 5)]
    data = dataset(table)
    assert [row.target for row in data.rows] == [1, 0, 0, 1] and data.classes == ("not Smiling", "Smiling")
    assert [data[index].row.path.name for index in range(4)] == [f"{number:06}.png" for number in range(1, 5)]
    assert [row.target for row in dataset(table, classes=["neutral", "smile"]).rows] == [1, 0, 0, 1]
    assert [row.target for row in dataset(table, classes=2).rows] == [1, 0, 0, 1]


def test_celeba_as_csv_and_a_part_of_it(celeba: Path) -> None:
    lines = [line.split() for line in CELEBA.splitlines()[1:]]
    text = "\n".join(",".join(line) for line in [["image_id", *lines[0]], *lines[1:]])
    attributes = write(celeba / "list_attr_celeba.csv", text)
    partition = write(celeba / "list_eval_partition.csv", "image_id,partition\n" + PARTITIONS.replace(" ", ","))
    images, texts = celeba / "images", [celeba / "list_attr_celeba.txt", celeba / "list_eval_partition.txt"]
    whole, table = (read_labels(files, group="Male", root=images) for files in (texts, [attributes, partition]))
    assert [row.groups for row in table] == [row.groups for row in whole] and table.format == "celeba"
    test = read_labels([attributes, partition], group="Male", where={"partition": "test"}, root=images)
    assert [row.name for row in test] == ["000003.jpg", "000004.jpg"]
    both = read_labels(texts, where={"partition": ["train", "valid"], "Male": "Female"}, root=images)
    assert [row.name for row in both] == ["000001.jpg", "000002.jpg"]
    with pytest.raises(CanonicalError, match=r"where: expected values of 'partition' \(test, train, valid\), got dev"):
        read_labels([attributes, partition], where={"partition": "dev"})


def test_celeba_lists_that_were_cut_off(celeba: Path) -> None:
    write(celeba / "list_attr_celeba.txt", CELEBA.replace("4\n", "202599\n", 1))
    with pytest.warns(UserWarning, match=r"list_attr_celeba\.txt: expected 202,599 photographs.* got 4"):
        read_labels(celeba / "list_attr_celeba.txt", root=celeba / "images")


# ------------------------------------------------------------------------------------------------------------- LFW
LFW = ["Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg", "Bo/Bo_0001.jpg", "Cy_de_Jong/Cy_de_Jong_0010.jpg"]


def test_lfw_folders_and_lists_of_photographs(tmp_path: Path) -> None:
    folder = touch(tmp_path / "lfw", *LFW)
    table = read_labels(folder)
    assert table.format == "lfw" and [row.identity for row in table] == ["Ann_Lee", "Ann_Lee", "Bo", "Cy_de_Jong"]
    women = write(tmp_path / "female_names.txt", "Ann_Lee_0001.jpg\nAnn_Lee_0002.jpg\n")
    men = write(tmp_path / "male_names.txt", "Bo_0001.jpg\nCy_de_Jong_0010.jpg\n")
    for source, options in (([folder, women, men], {}), ([women, men], {"root": folder})):
        table = read_labels(source, group="gender", **options)
        assert [(row.identity, row.group) for row in table] == [
            ("Ann_Lee", "Female"),
            ("Ann_Lee", "Female"),
            ("Bo", "Male"),
            ("Cy_de_Jong", "Male"),
        ]
        assert [row.path for row in table] == [folder / name for name in LFW] and not table.missing


@pytest.mark.parametrize("first", ["1\t2\n", "2\n", ""])
def test_photographs_of_lfw_pairs(tmp_path: Path, first: str) -> None:
    """Each once, in the order of the list, as of the folder; with the numbers of folds and pairs, of pairs, or none."""
    folder = touch(tmp_path / "lfw", *LFW)
    pairs = write(tmp_path / "pairs.txt", f"{first}Ann_Lee\t1\t2\nBo\t1\tCy_de_Jong\t10\nBo\t1\tAnn_Lee\t2\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = read_labels(pairs, root=folder)
    assert table.format == "lfw" and not table.missing and not table.unused
    assert [(row.path, row.identity) for row in table] == [(row.path, row.identity) for row in read_labels(folder)]
    assert [int(row.origin.split()[-1]) - bool(first) for row in table] == [1, 1, 2, 2]


def test_the_photographs_of_the_real_pairs(shared: Path) -> None:
    lfw = shared / "data/lfw"
    table, every = read_labels(lfw / "pairs.txt", root=lfw / "images"), read_labels(lfw / "photos.csv")
    assert len(table) == 3811 and not table.missing
    people = {row.path.name: row.identity for row in every}
    assert all(people[row.path.name] == row.identity for row in table)


def test_lfw_lists_of_people(tmp_path: Path) -> None:
    folder = touch(tmp_path / "lfw", *LFW)
    women = write(tmp_path / "female.txt", "Ann_Lee\nEve_Ray\n")
    men = write(tmp_path / "lfw_male.txt", "Bo\nCy_de_Jong\n")
    with pytest.warns(UserWarning, match=r"female\.txt: 1 lines are about other photographs") as caught:
        table = read_labels([folder, women, men], group="gender")
    assert len(caught) == 1
    assert [row.group for row in table] == ["Female", "Female", "Male", "Male"]
    assert [(each.kind, each.path.name) for each in table.unused] == [("absent", "Eve_Ray")]
    pairs = write(tmp_path / "gender.tsv", "Ann_Lee\tF\nBo\tm\nCy_de_Jong\tmale\n")
    assert [row.group for row in read_labels([folder, pairs], group="gender")] == ["Female", "Female", "Male", "Male"]
    with pytest.raises(CanonicalError, match="expected a folder or a table of photographs beside this list of people"):
        read_labels(women, group="gender")


def test_photographs_in_both_lists_have_no_gender(tmp_path: Path) -> None:
    folder = touch(tmp_path / "lfw", *LFW)
    women = write(tmp_path / "female_names.txt", "Ann_Lee_0001.jpg\nBo_0001.jpg\n")
    men = write(tmp_path / "male_names.txt", "Bo_0001.jpg\nCy_de_Jong_0010.jpg\n")
    with pytest.warns(UserWarning) as caught:
        table = read_labels([folder, women, men], group="gender")
    said = "gender: nothing is said of 1 of 4 photographs; tables differ on 1 photographs, of which none is known now."
    assert said in {str(each.message) for each in caught}
    assert [row.group for row in table] == ["Female", None, None, "Male"]
    with pytest.warns(UserWarning, match="gender: nothing is said of 2 of 4 photographs"):
        read_labels([folder, women], group="gender")


def test_photographs_of_a_camera_are_not_of_one_person(tmp_path: Path) -> None:
    table = read_labels(touch(tmp_path, "IMG_0001.jpg", "IMG_0002.jpg", "DSC_0001.jpg"))
    assert table.format == "table" and [row.identity for row in table] == [None] * 3
    table = read_labels(touch(tmp_path / "lfw", *LFW, "Bo/portrait.jpg"), format="lfw")
    assert len(table) == 4 and [(each.kind, each.path.name) for each in table.unused] == [("no label", "portrait.jpg")]


# -------------------------------------------------------------------------------------------------------- FairFace
FAIRFACE = """file,age,gender,race,service_test
val/1.jpg,03-Sep,Male,East Asian,FALSE
val/2.jpg,9-Mar,Female,East Asian,TRUE
val/3.jpg,Oct-19,Male,White,TRUE
val/4.jpg,20-29,Female,Latino_Hispanic,TRUE
val/5.jpg,more than 70,Male,Middle Eastern,FALSE
val/6.jpg,0-2,Male,Latino_Hispanic,TRUE
"""


def test_fairface_with_ages_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    touch(tmp_path / "val", *(f"{number}.jpg" for number in range(1, 7)))
    file = write(tmp_path / "fairface_label_val.csv", FAIRFACE)
    said = r"3 of 6 ages are dates.*'03-Sep' is '3-9' 1 times, '9-Mar' is '3-9' 1 times, 'Oct-19' is '10-19' 1 times"
    with pytest.warns(UserWarning, match=said):
        table = read_labels(file, target="race", group=("gender", "race", "age"))
    assert table.format == "fairface" and not table.missing
    assert groups(table)[0] == ("Male", "East Asian", "3-9")
    assert groups(table)[4] == ("Male", "Middle Eastern", "more than 70")
    assert [row.groups["age"] for row in table] == ["3-9", "3-9", "10-19", "20-29", "more than 70", "0-2"]
    for classes in (None, 7):
        assert [row.target for row in dataset(table, classes=classes).rows] == [
            3,
            3,
            0,
            2,
            6,
            2,
        ]  # FairFace's own order
    alphabetical = ("Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "white")
    assert [row.target for row in dataset(table, classes=alphabetical).rows] == [1, 1, 6, 3, 4, 3]
    with pytest.warns(UserWarning, match="3 of 6 ages"):
        served = read_labels(file, where={"service_test": "TRUE"}, root=tmp_path / "val")  # val/2.jpg in .../val
    assert [row.path for row in served] == [tmp_path / "val" / f"{number}.jpg" for number in (2, 3, 4, 6)]


def test_ages_that_are_dates_of_any_form() -> None:
    threes = ["03-Sep", "3-Sep", "Sep-03", "9-Mar", "09-Mar", "Mar-09", "3. Sept", "09. Mrz", "2021-09-03"]
    threes += ["2022-03-09", "3/9/2021", "9/3/2021", "2021-03-09 00:00:00", "03-09", "44264"]  # 2021-03-09, as a number
    tens = ["Oct-19", "19-Oct", "Okt 19", "oct.-19", "2019-10-01", "01/10/2019", "2021-10-19", "1-Oct-19", "43739"]
    assert {text: repaired_age(text) for text in threes} == dict.fromkeys(threes, "3-9")
    assert {text: repaired_age(text) for text in tens} == dict.fromkeys(tens, "10-19")
    others = [*(age for age in AGES if age not in ("3-9", "10-19")), "70+", "unknown", "12345", "Oct-20", "25", "9"]
    assert {text: repaired_age(text) for text in others} == dict.fromkeys(others)


def test_ages_and_races_that_are_not_fairface_s_stay(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", FAIRFACE.replace("0-2,Male", "babies,male").replace("more than 70", ""))
    with pytest.warns(UserWarning) as caught:
        table = read_labels(file, group=("age", "gender"))
    assert any("1 of 6 ages are none of FairFace's groups ('babies' 1 times)" in str(each.message) for each in caught)
    assert groups(table)[4:] == [(None, "Male"), ("babies", "Male")]


# --------------------------------------------------------------------------------------------------------- UTKFace
def test_utkface_names_and_those_without_a_label(tmp_path: Path) -> None:
    good = {
        "1_0_4_20170103201427639.jpg": (1, "Male", "Others"),
        "26_1_2_20170116184024662.jpg.chip.jpg": (26, "Female", "Asian"),
        "part2/110_1_0_20170120134639935.jpg": (110, "Female", "White"),
        "35_0_1_20170117003130345.jpg": (35, "Male", "Black"),
    }
    bad = ["39_1_20170116174525125.jpg", "61_3_20170109150557335.jpg.chip.jpg", "24_0_7_20170109150557335.jpg", "x.jpg"]
    table = read_labels(touch(tmp_path, *good, *bad, "readme.txt"), group=("age", "gender", "race"), target="age")
    assert table.format == "utkface"
    assert {row.name: tuple(row.groups.values()) for row in table} == good
    assert sorted(each.path.name for each in table.unused if each.kind == "no label") == sorted(bad)
    assert [each.path.name for each in table.unused if each.kind == "not a photograph"] == ["readme.txt"]
    assert {type(row.target) for row in dataset(table).rows} == {float}  # to be predicted, not a class
    assert dataset(table).unused == table.unused
    by_race = read_labels(tmp_path, target="race")
    assert [row.target for row in dataset(by_race).rows] == [4, 2, 1, 0]
    with pytest.raises(CanonicalError, match=r"expected a name such as 25_1_0.*got 'x\.jpg'"):
        read_labels(touch(tmp_path / "other", "x.jpg"), format="utkface")


# ---------------------------------------------------------------------------------------------------------- RAF-DB
def test_raf_db(tmp_path: Path) -> None:
    lines = [f"train_{number:05}.jpg {number}" for number in range(1, 8)] + ["test_0001.jpg 4"]
    file = write(tmp_path / "list_patition_label.txt", "\n".join(lines))
    images = touch(tmp_path / "aligned", *(line.split()[0].replace(".jpg", "_aligned.jpg") for line in lines))
    table = read_labels(file, target="expression", group="expression", root=images)
    assert table.format == "raf-db" and not table.missing and table[0].path.name == "train_00001_aligned.jpg"
    assert [row.group for row in table] == [*RAF_DB, "Happiness"]
    assert [row.target for row in dataset(table).rows] == [0, 1, 2, 3, 4, 5, 6, 3]
    assert [row.name for row in read_labels(file, where={"partition": "test"})] == ["test_0001.jpg"]  # beside the list
    same = write(tmp_path / "train_labels.csv", "image,label\ntest_0001_aligned.jpg,4\n")
    assert [row.group for row in read_labels(same, group="expression", root=images)] == ["Happiness"]


def test_lines_of_raf_db_without_an_expression_are_listed(tmp_path: Path) -> None:
    lines = ["train_00001.jpg 3", "train_00002.jpg 9", "test_0001.jpg 4"]
    file = write(tmp_path / "list.txt", "\n".join(lines))
    with pytest.warns(UserWarning, match="not there"):
        table = read_labels(file, target="expression", format="raf-db")
    assert [row.target for row in dataset(table).rows] == [2, 3] and table[1].origin == "list.txt, line 3"
    ((path, reason),) = [(each.path.name, each.reason) for each in table.unused]
    assert path == "train_00002.jpg" and "number from 1 to 7, got 'train_00002.jpg 9'" in reason
    with pytest.raises(CanonicalError, match="number from 1 to 7"):
        read_labels(write(tmp_path / "list.txt", lines[1]), format="raf-db")


# -------------------------------------------------------------------------------------------------- the real files
def test_the_tables_in_shared(shared: Path) -> None:
    folder = shared / "data"
    lfw = read_labels(folder / "lfw" / "photos.csv", group="gender")
    names = read_labels(folder / "lfw" / "images")
    assert len(lfw) == len(names) == 4332 and not lfw.missing and names.format == "lfw"
    assert {row.path: row.identity for row in lfw} == {row.path: row.identity for row in names}
    table = cc.read_labels(folder / "fairface" / "photos.csv", target="race", group=("gender", "race", "age"))
    assert table.format == "fairface" and len(table) == 2500 and not table.missing
    with open(folder / "fairface" / "photos.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert groups(table) == [(line["gender"], line["race"], line["age"]) for line in lines]


def test_fairface_s_labels_as_they_were_downloaded(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(shared / "data" / "fairface" / "images")
    file = shared / "data" / "fairface" / "labels_as_downloaded.csv"
    with pytest.warns(UserWarning) as caught:
        table = read_labels(file, group=("age", "gender", "race"), root=tmp_path)
    said = [str(each.message) for each in caught]
    assert any("7 of 39 ages are dates" in text for text in said)
    assert any("of 39 photographs are not there, such as" in text for text in said)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = read_labels(file.with_name("photos.csv"), group=("age", "gender", "race"))
    right = {Path(row.name).name: row.groups for row in whole}
    found = {Path(row.name).name: row.groups for row in table if row not in table.missing}
    assert len(found) >= 5 and found == {name: right[name] for name in found}
