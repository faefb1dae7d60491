"""`scaling.bench page`: BENCHMARKS.md is what the figures say."""

import json
import shutil
from pathlib import Path

import pytest

from scaling.bench.command import main
from scaling.bench.page.command import PAGE, RESULTS, make_page
from scaling.errors import UserError


def test_the_page_in_the_repository_is_what_its_figures_give(tmp_path: Path) -> None:
    assert main(["page", "--out", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == PAGE.read_text(), "run python -m scaling.bench page"


def test_every_file_is_on_the_page_and_another_figure_changes_it(tmp_path: Path) -> None:
    results = shutil.copytree(RESULTS, tmp_path / "results")
    page = make_page(results)
    assert all(f"(`{path.name}`)" in page for path in results.glob("*.json"))
    fewshot = json.loads((results / "fewshot.json").read_text())
    assert f"commit {fewshot['git_commit'][:8]}, load {fewshot['load_at_the_end']:.1f} (`fewshot.json`)" in page
    fewshot["cpu_ratio"] = {"median": 0.12, "lower_quartile": 0.11, "upper_quartile": 0.13}
    (results / "fewshot.json").write_text(json.dumps(fewshot))
    assert "| 0.12 (0.11-0.13) |" in make_page(results) and "| 0.12 (0.11-0.13) |" not in page


def test_a_folder_without_figures_leaves_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("as it was")
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="there is no file of figures"):
            main(["page", "--results", str(folder), "--out", str(page)])
    assert page.read_text() == "as it was"


def test_a_file_of_no_benchmark_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"notes\.json is of no benchmark on the page; begin its name with one of pipeline"
    ):
        make_page(tmp_path)
