"""Files of class names as people save them: read right, or a sentence that names the line."""

from pathlib import Path

import pytest

from scaling.data.format.class_names import ClassNames, read_classes
from scaling.errors import UserError

NAMES = ("cat", "café", "emu")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\ncafé\nemu\n".encode()),
        ("a.txt", "cat\r\ncafé\r\nemu\r\n\r\n".encode("utf-8-sig")),
        ("a.txt", "cat\ncafé\nemu".encode("utf-16")),
        ("a.txt", "cat\ncafe\u0301\nemu\n".encode()),
        ("a.txt", "0\tcat\n1\tcafé\n2\temu\n".encode()),
        ("a.json", '[\n "cat",\n "café",\n "emu"\n]\n'.encode()),
        ("a.txt", '[\n "cat",\n "café",\n "emu"\n]\n'.encode("utf-8-sig")),
        ("a.json", b'{"cat": 0, "emu": 2, "caf\\u00e9": 1}'),
        ("a.json", b'{"2": "emu", "0": "cat", "1": "caf\\u00e9"}'),
        ("a.json", b'{"schema": 1, "classes": ["cat", "caf\\u00e9", "emu"]}'),
    ],
)
def test_every_form_gives_the_same_names(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_classes(tmp_path / name) == ClassNames(NAMES)


def test_joined_letters_are_kept(tmp_path: Path) -> None:
    names = ("क्\u200dष", "می\u200cخواهم", "👩\u200d🔬")
    (tmp_path / "a.txt").write_text("\n".join(names))
    assert read_classes(tmp_path / "a.txt").names == names


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"cat\n\nemu\n", "line 2 is blank"),
        (b"cat\nemu\ncat\n", "'cat' names class 0 and class 2"),
        (b"0 cat\n1 dog\n", "separate number and name by a tab"),
        (b"0\tcat\n0\tdog\n", "two classes the same identifier"),
        ("caf\u00e9\n".encode("latin-1"), "is not UTF-8 at byte 3"),
        (b"[1, 2]", "1 is not the name of a class"),
        (b'{"a": "b"}', "must lead from names to numbers"),
        (b"[", "is not JSON"),
        (b"", "line 1 is blank"),
        (b'["cat", null]', "None is not the name of a class"),
        (b"cat\nd\x1bog\n", r"holds \\x1b, which is not printable; rename it"),
        (b'["c\\nat"]', r"holds \\n,"),
        ("ca\u202et\n".encode(), r"holds \\u202e"),
        ("a\u2028b\n".encode(), r"holds \\u2028"),
        ("cat\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=told):
        read_classes(tmp_path / "a.txt")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.txt", tmp_path):
        with pytest.raises(UserError, match="--classes"):
            read_classes(path)


def test_a_file_of_classes_without_end_is_refused_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaling.data.format.class_names.MAX_TEXT_BYTES", 10_000)
    with pytest.raises(UserError, match="/dev/zero has more than 10,000 bytes"):
        read_classes(Path("/dev/zero"))
