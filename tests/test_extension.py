"""CONTRIBUTING.md's package, installed as it stands: a model, an evaluation, a back end and a figure from outside."""

import csv
import json
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.installed import Extensible, load_installed
from tests.support.tiny_study import TINY_SWEEP

ROOT = Path(__file__).parent.parent

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()

GROUPS = {"scaling.models", "scaling.evaluations", "scaling.backends", "analysis.figures"}


def write_package(folder: Path) -> None:
    """The files of the guide, and the metadata that installing them would write."""
    blocks = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    files = dict(blocks)
    assert len(blocks) == len(files) == 7
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    assert set(project["entry-points"]) == GROUPS
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    metadata = folder / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def run(folder: Path, *words: str) -> str:
    """The output of a Python command that finds the package."""
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    answer = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_a_study_uses_a_model_an_evaluation_a_back_end_and_a_figure_from_outside(
    tiny_data: Path, tmp_path: Path
) -> None:
    write_package(tmp_path)
    (tmp_path / "sweep.yaml").write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
    options = ["grid.model=[mean-colour-3]", "evals=[{kind: brightness, level: 0.25}]", "launch.backend=overnight"]
    settings = [word for option in options for word in ("--set", option)]
    run(tmp_path, "-m", "scaling.launch", "sweep.yaml", *settings)
    report = tmp_path / "runs" / "tiny" / "report"
    (row,) = csv.DictReader((report / "runs.csv").read_text().splitlines())
    assert row["model"] == "mean-colour-3" and math.isfinite(float(row["brightness/largest_logit"]))
    assert {"steps.png", "steps.svg", "steps.csv"} <= {path.name for path in report.iterdir()}
    assert "The last logged step of each run." in (report / "index.html").read_text()


@pytest.mark.parametrize(("name", "words"), [("bad", "cannot be loaded"), ("json", "gives function, not dict")])
def test_an_entry_point_that_does_not_fit_is_named(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "thing-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    target = {"bad": "no_such_module:X", "json": "json:dumps"}[name]
    (metadata / "entry_points.txt").write_text(f"[things]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=rf"entry point '{name}' of group 'things'.*{words}"):
        load_installed("things", dict)
    (metadata / "entry_points.txt").write_text("[things]\nours = os:environ\n")
    with pytest.raises(UserError, match="the name is taken"):
        len(Extensible("things", object, {"ours": object()}))


def test_the_guide_names_files_that_exist() -> None:
    rooms = re.findall(r"`((?:scaling|analysis|tests)[\w/]*(?:\.py)?)`", GUIDE)
    assert len(rooms) > 15
    missing = [name for name in rooms if not (ROOT / name).exists()]
    assert not missing


def test_the_commands_of_the_guide_are_the_projects() -> None:
    rows = dict(re.findall(r"^\| ([\w ]+) \| `([^`]+)`", GUIDE, flags=re.MULTILINE))
    assert list(rows)[:4] == ["set up", "test", "lint", "check types"]
    readme = (ROOT / "README.md").read_text()
    assert rows["test"] in readme
    assert rows["set up"].replace("pip install -e", "pip install -qe") in readme
