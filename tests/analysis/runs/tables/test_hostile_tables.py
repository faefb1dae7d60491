"""Tables and options of the analysis that would be read as something else, or end in a traceback: one sentence each."""

import os
import re
from pathlib import Path

import pytest

from analysis.__main__ import main as analysis
from analysis.fit import main as fit
from analysis.power import main as power
from analysis.report.options import read_titles
from scaling.errors import UserError, run_command

HEAD = "model,num_images,seed,flops,e/top1\n"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("a,1000,0,1e9,0.5,7\n", "runs.csv:2: the row has 6 cells, but the header 5 columns"),
        ("a,1e300,0,1e9,0.5\n", "num_images is 1e+300"),
        ("a,1000,1e300,1e9,0.5\n", "seed is 1e+300"),
        ("a,1000,0,1e-300,0.5\n", "flops is 1e-300; give a number above 0, from 1e-30 to 1e40"),
        ('a,"1000\n', "runs.csv"),
    ],
)
def test_rows_that_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, told: str) -> None:
    (tmp_path / "runs.csv").write_text(HEAD + rows)
    assert run_command(analysis, ["--from-csv", str(tmp_path / "runs.csv"), "--metric", "e/top1"]) == 2
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1


def test_two_models_of_one_title(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs.csv").write_text(f"{HEAD}a,1000,0,1e9,0.5\nb,1000,0,1e9,0.4\n")
    (tmp_path / "titles.yaml").write_text("a: Same\nb: Same\n")
    words = ["--from-csv", str(tmp_path / "runs.csv"), "--metric", "e/top1", "--rename", str(tmp_path / "titles.yaml")]
    assert run_command(analysis, words) == 2
    assert "'a' and 'b' are both titled 'Same'; give each a title of its own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "y", "told"),
    [
        ("1,0.5\n2,0.4\n4,0.3\n8,0.25\n", "n", "--x and --y are both 'n'"),
        ("1e308,0.5\n1e307,0.4\n1e306,0.3\n1e305,0.2\n", "err", "1e+308, not from 1e-100 to 1e+100"),
    ],
)
def test_curves_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, y: str, told: str) -> None:
    (tmp_path / "a.csv").write_text("n,err\n" + rows)
    assert run_command(fit, [str(tmp_path / "a.csv"), "--x", "n", "--y", y, "--lower-is-better"]) == 2
    streams = capsys.readouterr()
    assert told in streams.err + streams.out and "Traceback" not in streams.err


@pytest.mark.parametrize("points", ["nan", "inf", "0"])
def test_differences_that_are_none(capsys: pytest.CaptureFixture[str], points: str) -> None:
    assert run_command(power, ["nowhere", "--difference", points]) == 2
    assert "give differences above 0, in points" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: Ours\na: Theirs\n", "'a' has several titles"),
        ("1: Ours\n'1': Theirs\n", "'1' has several titles"),
        ('{"a": "Ours", "a": "Theirs"}', "'a' has several titles"),
        ("2026-13-45: Ours\n", ""),
        ("a: 2026-13-45\n", "no mapping of models to titles"),
        ("a: [Ours]\n", "no mapping of models to titles"),
        ("? [a, b]\n: Ours\n", "no mapping of models to titles"),
        ('a: "\\e[31mred"\n', "no mapping of models to titles"),
        ("<<: {a: Ours}\n", "no mapping of models to titles"),
        ("", "no mapping of models to titles"),
        ("a: " + "[" * 90_000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]\n", "no mapping of models to titles"),
        ("x: y\n" * 100_000, "more than 100,000 bytes"),
    ],
)
def test_titles_that_are_none_and_models_that_look_like_something_else(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "titles.yaml"
    path.write_text(text)
    if told:
        with pytest.raises(UserError, match=re.escape(f"--rename {path}") + ".*" + re.escape(told)):
            read_titles(path)
    else:
        assert list(read_titles(path).values()) == ["Ours"]


def test_a_pipe_of_titles_holds_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "titles")
    with pytest.raises(UserError, match="is a pipe or a device"):
        read_titles(tmp_path / "titles")
