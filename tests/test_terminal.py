"""What is quoted from files, servers and other users' records does nothing to the terminal that shows it."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scaling.data.format.load_manifest import load_manifest
from scaling.errors import UserError, printable, run_command
from scaling.launch.progress import ProgressView
from scaling.readable import defused, plain_table

HOSTILE = "\x1b]0;title\x07\x1b[2Jgone\r\n\u202etxt.exe \x9b31m \ud800"


def test_texts_are_shown_on_one_line_without_control_characters() -> None:
    for text in (printable(HOSTILE), str(UserError(f"field {HOSTILE}")), plain_table(["run"], [[HOSTILE]])):
        assert all(char.isprintable() for line in text.split("\n") for char in line)
        assert "title" in text and text.encode()
    assert printable("Größe ± 3 µm, 猫, 🙂") == "Größe ± 3 µm, 猫, 🙂"


def test_words_of_others_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are frequent: node lists, paths, numbers of errors."""
    view = ProgressView()
    for words in ("waits for node[a-b]", "cannot read [/data/x.tar]", "[Errno 28] No space", "[bold]", HOSTILE):
        view.note(words)
        assert capsys.readouterr().err == f"{printable(words)}\n"


def test_a_manifest_with_escapes_in_its_names_is_quoted_harmlessly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a\x1b[2J.json"
    path.write_text('{"schema": "\\u001b[2J"}')
    with caplog.at_level(logging.WARNING), pytest.raises(UserError) as refusal:
        load_manifest(path)
    assert "\x1b" not in str(refusal.value) + caplog.text


def test_cells_of_csv_are_no_formulas() -> None:
    assert [defused(cell) for cell in ("=1+1", "@x", "-3.5", "cat")] == [
        "'=1+1",
        "'@x",
        "-3.5",
        "cat",
    ]


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: (path / "file").mkdir(), "file cannot be made a folder: a file is in its place; name another"),
        (lambda path: (path / "file" / "a.md").write_text(""), "file: a part of this path is a file, where a folder"),
        (lambda path: path.write_text(""), "is a folder, but a file is needed there; name a file"),
    ],
)
def test_what_stands_in_the_place_of_an_output_is_told_with_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path], object], told: str
) -> None:
    (tmp_path / "file").write_text("x")

    def command(argv: Sequence[str] | None) -> int:
        write(tmp_path)
        return 0

    assert run_command(command) == 2
    assert told in capsys.readouterr().err
