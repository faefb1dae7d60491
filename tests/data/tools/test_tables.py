"""Labels of tables: never invented, never lost; the row and a way out are named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scaling.data.command import main
from scaling.data.format.class_names import ClassNames
from scaling.data.tools.commands.build import describe_build_source
from scaling.data.tools.sources.find import find_source
from scaling.data.tools.sources.source import SourceOptions
from scaling.errors import UserError


def table(tmp_path: Path, labels: Sequence[Any], kind: str) -> Path:
    frame = pd.DataFrame({"path": [f"{number}.jpg" for number in range(len(labels))], "labels": labels})
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


def understood(path: Path, **options: Any) -> tuple[tuple[str, ...], str, list[list[int]]]:
    """Classes, label type and the class numbers of every row."""
    source = find_source(path, SourceOptions(**options))
    return tuple(source.classes), source.label_type, [labels for _, labels in source.references()]


KINDS = pytest.mark.parametrize("kind", ["csv", "parquet"])


@KINDS
@pytest.mark.parametrize(
    ("labels", "row"), [(["cat", None, "dog"], 2), ([0.0, 1.0, None], 3), (["cat", "  ", "dog"], 2)]
)
def test_a_blank_label_is_an_error_with_its_row(tmp_path: Path, kind: str, labels: list[Any], row: int) -> None:
    path = table(tmp_path, labels, kind)
    with pytest.raises(UserError, match=rf"row {row + (kind == 'csv')} has no label.*--label-type multi"):
        understood(path)
    assert understood(path, label_type="multi")[1] == "multi"


@KINDS
def test_numbers_sort_as_numbers(tmp_path: Path, kind: str) -> None:
    floats = [float(number % 12) for number in range(36)]
    classes, label_type, labels = understood(table(tmp_path, floats, kind))
    assert classes == tuple(map(str, range(12))) and label_type == "single"
    assert labels == [[number % 12] for number in range(36)]


@KINDS
def test_zero_padded_numbers_are_names(tmp_path: Path, kind: str) -> None:
    assert understood(table(tmp_path, ["002", "001", "010"], kind))[0] == ("001", "002", "010")


@KINDS
def test_identifiers_are_as_many_classes_as_occur(tmp_path: Path, kind: str) -> None:
    classes, _, labels = understood(table(tmp_path, [1454382, 48735, 119020, 48735], kind))
    assert classes == ("48735", "119020", "1454382") and labels == [[2], [0], [1], [0]]
    above_floats = [2**60 + 1, 3, 2**60, 3]
    classes, _, labels = understood(table(tmp_path, above_floats, kind))
    assert classes == ("3", str(2**60), str(2**60 + 1)) and labels == [[2], [0], [1], [0]]


@KINDS
@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["cat", "nan", "dog"], "missing value"),
        (["cat", "None", "dog"], "missing value"),
        (["1", "2", "n/a"], "missing value"),
        (["1", "2", "unknown"], "a word among numbers"),
        ([0.5, 1.0, 2.0], "'0.5' is no class number"),
        ([-1, 0, 1], "'-1' is no class number"),
        (["01", "1", "2"], "are one number"),
        (["[0, 1]", "[2]", "[1]"], "a list in one cell"),
        (["('a',)", "b", "c"], "a list in one cell"),
        (["cat", "d\nog", "emu"], r"holds \\n, which is not printable"),
        (["cat", "d\tog", "emu"], "not printable; rename it"),
        (["cat", "d\x1b[31mog", "emu"], r"holds \\x1b"),
        (["cat", "d\u202eog", "emu"], r"holds \\u202e"),
    ],
)
def test_what_is_no_class_is_refused_with_its_row(tmp_path: Path, kind: str, labels: list[Any], told: str) -> None:
    if (kind == "csv" and labels[1] in ("nan", "None")) or (labels[-1] == "n/a" and kind == "csv"):
        (tmp_path / "table.csv").write_text("path,labels\n" + "".join(f"{n}.jpg,{x}\n" for n, x in enumerate(labels)))
        path = tmp_path / "table.csv"
    else:
        path = table(tmp_path, labels, kind)
    with pytest.raises(UserError, match=rf"row \d.*{told}"):
        understood(path)


def test_a_list_of_classes_gives_order_names_and_words_that_look_missing(tmp_path: Path) -> None:
    path = table(tmp_path, ["none", "dog", "none"], "parquet")
    given = ClassNames(("dog", "none", "emu"))
    assert understood(path, classes=given) == (("dog", "none", "emu"), "single", [[1], [0], [1]])
    with pytest.raises(UserError, match=r"row 2: --classes does not name the class 'dog'"):
        understood(path, classes=ClassNames(("cat", "none")))


def test_numbers_are_named_by_a_list_of_classes(tmp_path: Path) -> None:
    path = table(tmp_path, [119020, 48735], "csv")
    given = ClassNames(("cat", "dog"), (48735, 119020))
    assert understood(path, classes=given) == (("cat", "dog"), "single", [[1], [0]])


VECTORS = [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


@KINDS
def test_vectors_are_refused_unless_told(tmp_path: Path, kind: str) -> None:
    rows = VECTORS if kind == "parquet" else ["|".join(map(str, row)) for row in VECTORS]
    path = table(tmp_path, rows, kind)
    with pytest.raises(UserError, match="every row has 3 labels, all of them 0 or 1"):
        understood(path)
    assert understood(path, label_type="one-hot") == (("0", "1", "2"), "single", [[1], [2], [0]])


def test_lists_with_a_missing_value_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 2: its list of labels holds a missing value"):
        understood(table(tmp_path, [["a"], ["a", None], ["b"]], "parquet"))


def test_a_single_label_table_says_which_row_has_two(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 3 has several labels, but --label-type single"):
        understood(table(tmp_path, ["a", "a|b", "b"], "csv"), label_type="single")


TEXT = "path,labels\r\n0.jpg,cat\r\n1.jpg,café\r\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace("path,labels", "path , labels").encode(),
        TEXT.replace("café", "cafe\u0301").encode(),
    ],
    ids=["utf8", "bom", "utf16", "semicolons", "tabs", "blanks", "accents"],
)
def test_csv_files_as_programs_write_them(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert understood(tmp_path / "a.csv") == (("café", "cat"), "single", [[1], [0]])


def test_decimal_commas_are_numbers_where_columns_are_separated_by_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path;labels\n0.jpg;2,0\n1.jpg;10,0\n2.jpg;2,0\n")
    assert understood(tmp_path / "a.csv") == (("2", "10"), "single", [[0], [1], [0]])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TEXT.encode("latin-1"), "is not UTF-8 at byte"),
        (b"path,labels\n0.jpg,cat,dog\n", "line 2 has not as many cells"),
        (b"path,labels\n0.jpg\n", "line 2 has not as many cells"),
        (b"path,labels\n,cat\n", "names no file"),
        (b"path,labels\n0.jpg,cat||dog\n", "a blank between two"),
        (b"", "no header line"),
        (b"path,label\n0.jpg,cat\n", "'labels' is missing.*did you mean 'label'"),
        (b"path,labels\n", "lists no images"),
        (b'path,labels\n0.jpg,"cat\n1.jpg,dog\n', "close every quotation mark"),
        (b'path,labels\n"0.jpg,cat\n1.jpg,dog\n', "close every quotation mark"),
        (TEXT.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        (TEXT.encode("utf-32"), "is UTF-32"),
    ],
)
def test_csv_files_that_cannot_be_read_are_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=told):
        understood(tmp_path / "a.csv")


def test_a_file_that_is_no_parquet_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        understood(tmp_path / "a.parquet")


def test_rows_are_left_out_by_pattern_and_said(tmp_path: Path, capsys) -> None:
    path = table(tmp_path, ["a", "b", "a"], "csv")
    with pytest.raises(UserError, match=r"cannot be packed: .*0\.jpg cannot be read"):
        main(["build", str(path), str(tmp_path / "out"), "--ignore", "1.jpg"])
    assert "left out: 1 rows ignored as told ('1.jpg')" in capsys.readouterr().out


@KINDS
def test_rows_that_name_one_image_are_counted_or_refused(tmp_path: Path, kind: str) -> None:
    path = table(tmp_path, ["cat", "dog", "cat"], kind)
    frame = pd.read_csv(path) if kind == "csv" else pd.read_parquet(path)
    write = frame.to_csv if kind == "csv" else frame.to_parquet
    frame["path"] = ["0.jpg", "1.jpg", "./0.jpg"]
    write(path, index=False)
    source = find_source(path, SourceOptions())
    assert source.num_repeated == 1
    assert "1 rows name the image of an earlier row" in "\n".join(describe_build_source(source))
    frame["path"] = ["0.jpg", "./0.jpg", "2.jpg"]
    write(path, index=False)
    rows = (2, 3) if kind == "csv" else (1, 2)
    with pytest.raises(UserError, match=rf"rows {rows[0]} and {rows[1]} give ./0.jpg the labels cat and dog"):
        find_source(path, SourceOptions())


def test_names_that_a_person_would_take_for_one_are_told(tmp_path: Path) -> None:
    told = describe_build_source(find_source(table(tmp_path, ["Cat", "cat", "ice cream", "Icecream", "dog"], "csv")))
    assert "'Cat' and 'cat' differ in case, spaces or invisible characters alone: are they one class?" in told
    assert (
        "'Icecream' and 'ice cream' differ in case, spaces or invisible characters alone: are they one class?" in told
    )
    assert len([line for line in told if "one class?" in line]) == 2


def test_an_empty_table_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="has no header line with the columns 'path' and 'labels'; is it empty"):
        find_source(tmp_path / "empty.csv", SourceOptions())


@KINDS
def test_a_label_that_a_row_repeats_makes_no_multi_label_set(tmp_path: Path, kind: str) -> None:
    labels: list[Any] = ["a|a", "b", "a"] if kind == "csv" else [["a", "a"], ["b"], ["a"]]
    assert understood(table(tmp_path, labels, kind)) == (("a", "b"), "single", [[0], [1], [0]])


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,labels,labels\n0.jpg,a,b\n")
    with pytest.raises(UserError, match="has 2 columns 'labels'; rename all but one"):
        understood(tmp_path / "t.csv")


def test_a_few_rows_with_several_labels_are_told(tmp_path: Path) -> None:
    source = find_source(table(tmp_path, [*"ab" * 100, "a|b"], "csv"))
    told = "multi-label because of 1 of 201 samples with several labels (the first is"
    assert any(line.startswith(told) and "row 202)" in line for line in describe_build_source(source))


def test_one_image_under_two_paths_is_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"path,labels\n0.jpg,a\n../{tmp_path.name}/0.jpg,b\n")
    with pytest.raises(UserError, match="rows 2 and 3 give"):
        understood(path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("cat", "cat\u200b"), "differ in case, spaces or invisible characters alone"),
        (("\ufb01sh", "fish"), "differ in case, spaces or invisible characters alone"),
        (("cat", "dog", "7"), "numbers among words: '7'"),
    ],
)
def test_names_that_may_be_mistakes_are_told(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    source = find_source(table(tmp_path, names, "csv"))
    assert any(told in line for line in describe_build_source(source))
