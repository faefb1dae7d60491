import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.accuracy_vs_throughput import accuracy_vs_throughput
from analysis.figures.canvas.style import drawing_style
from analysis.report.check import differences
from analysis.report.tables import latex
from analysis.runs.load import load_records
from analysis.runs.summary import cells, runs_without
from scaling.records.state import RunState
from scaling.records.study import load_plan_order, save_plan_order
from tests.support.synthetic_study import METRIC, TRUTHS, make_study


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    first = make_study(root, name="first", models=["vit-b/32", "bit-r152x2"], seeds=(0, 1))
    return [first, make_study(root, name="second", models=["mixer-b/32"], seeds=(0, 1))]


@pytest.fixture(scope="module")
def report(studies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    assert main([*map(str, studies), "--out", str(out)]) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_records_give_the_same_bytes_whatever_the_order(
    studies: list[Path], report: Path, tmp_path: Path
) -> None:
    for folder in sorted((path for study in studies for path in study.iterdir()), reverse=True):
        target = tmp_path / "copied" / folder.parent.name / folder.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, target) if folder.is_dir() else shutil.copy(folder, target)
    assert main([str(tmp_path / "copied" / name) for name in ("second", "first")] + ["--out", str(tmp_path / "b")]) == 0
    assert contents(report) == contents(tmp_path / "b")
    assert {"accuracy_vs_size.svg", "cells.csv", "runs.parquet", "cells.tex", "report.md"} <= set(contents(report))


def test_cells_are_the_mean_over_runs_and_lie_near_the_true_curve(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-l/16"], seeds=range(5), noise=0.005)
    records = load_records([study])
    table = cells(records, METRIC)
    for row in table.itertuples():
        values = [
            json.loads((study / run_id / "evals" / "unseen.json").read_text())["metrics"][METRIC]
            for run_id in row.run_ids.split()
        ]
        assert len(values) == row.num_runs == 5
        assert row.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert row.sd == pytest.approx(np.std(values, ddof=1), rel=1e-12)
        assert (row.min, row.max) == (min(values), max(values))
        assert abs(row.mean - TRUTHS[row.model].accuracy(row.num_images)) < 4 * 0.005 / 5**0.5


def test_drawn_points_equal_the_table_and_every_run_is_visible(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32", "bit-r152x2"], seeds=(0, 1))])
    table = cells(records, METRIC)
    with drawing_style():
        drawing = accuracy_vs_size(records, table, METRIC)
        svg = drawing.svg()
    (axes,) = drawing.figure.axes
    drawn = {tuple(np.round(point, 9)) for line in axes.lines for point in line.get_xydata()}
    for row in table.itertuples():
        assert (row.num_images, round(100 * row.mean, 9)) in drawn
    for row in records.runs.itertuples():
        assert (
            row.num_images,
            round(100 * getattr(row, "_" + str(1 + records.runs.columns.get_loc(METRIC))), 9),
        ) in drawn
    assert {note.get_text() for note in axes.texts} >= {"Mixer-B/32", "ViT-B/32", "BiT-R152x2"}
    assert all(group in svg for group in drawing.tips)


def test_labels_of_seven_models_do_not_overlap(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, seeds=(0,))])
    table = cells(records, METRIC)
    with drawing_style():
        drawings = [accuracy_vs_size(records, table, METRIC), *accuracy_vs_throughput(records, table, METRIC)]
        for drawing in drawings:
            drawing.figure.draw_without_rendering()
            labels = [
                note for note in drawing.figure.axes[0].texts if "/" in note.get_text() or "R152" in note.get_text()
            ]
            labels = [note for note in labels if "run" not in note.get_text() and "pre-trained" not in note.get_text()]
            assert len(labels) == 7
            boxes = [super(type(note), note).get_window_extent() for note in labels]
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_devices_are_never_mixed(tmp_path: Path) -> None:
    one = make_study(tmp_path / "one", models=["mixer-b/32", "vit-b/32"], device="CPU A")
    two = make_study(tmp_path / "two", name="b", models=["bit-r152x2"], device="GPU B")
    records = load_records([one, two])
    with drawing_style():
        drawings = accuracy_vs_throughput(records, cells(records, METRIC), METRIC)
    assert [set(drawing.points["device"]) for drawing in drawings] == [{"CPU A"}, {"GPU B"}]
    assert len({drawing.name for drawing in drawings}) == 2


def test_training_throughput_stands_in_and_says_so(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0,))
    for path in study.glob("*/evals/throughput.json"):
        path.unlink()
    records = load_records([study])
    with drawing_style():
        (drawing,) = accuracy_vs_throughput(records, cells(records, METRIC), METRIC)
    assert "training" in drawing.figure.axes[0].get_xlabel()
    assert drawing.points["throughput_median"].tolist() == pytest.approx([4200 / 3, 2860 / 3])


def test_every_run_without_numbers_is_listed_with_its_reason(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=range(5))
    runs = sorted(study.glob("mixer-b32_100pct*"))
    states = [
        RunState(status="failed", attempt=2, step=37, error="loss is NaN at step 37"),
        RunState(),
        RunState(status="running", attempt=1, step=12),
        RunState(status="preempted", attempt=3, step=99),
        RunState(status="done", attempt=1, step=500),
    ]
    for run, state in zip(runs, states, strict=True):
        (run / "result.json").unlink()
        state.save(run)
    unplanned = sorted(study.glob("mixer-b32_003pct*"))[0].name
    save_plan_order(study, [run_id for run_id in load_plan_order(study) or [] if run_id != unplanned])
    again = make_study(tmp_path / "again", models=["mixer-b/32"], seeds=(3,), fractions=(0.3,))
    excluded = load_records([study, again]).excluded
    reasons = " ".join(excluded["reason"])
    assert len(excluded) == 7
    for words in ("NaN at step 37", "never started", "step 12 of 500", "pre-empted", "result.json is missing",
                  "not in the study's current plan", "same identity"):  # fmt: skip
        assert words in reasons


def test_runs_that_lack_the_chosen_metric_are_listed(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))
    run_dir = sorted(study.glob("vit*"))[0]
    (run_dir / "evals" / "unseen.json").unlink()
    excluded = runs_without(load_records([study]), METRIC)
    assert excluded["run_id"].tolist() == [run_dir.name]
    assert METRIC in excluded["reason"].iloc[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        (["STUDY", "--metric", "unseen/5shot_top2"], "did you mean 'unseen/5shot_top1'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,))
    assert main([str(study) if word == "STUDY" else word for word in arguments]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_a_study_with_nothing_finished_says_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,))
    for run in study.glob("mixer*"):
        (run / "result.json").unlink()
        RunState(status="running", step=3).save(run)
    assert main([str(study)]) == 2
    assert "4 preempted" in capsys.readouterr().err


def test_the_page_needs_no_network(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert "data-tip=" in page
    for loader in ("<link", "<script src", "<img", "@import", "fetch("):
        assert loader not in page
    addresses = {piece.split('"')[0] for piece in page.split('="http')[1:]}
    assert addresses <= {"://www.w3.org/2000/svg", "://www.w3.org/1999/xlink"}


def test_every_run_behind_a_cell_is_named_in_the_page(report: Path) -> None:
    page = (report / "index.html").read_text()
    for run_ids in pd.read_csv(report / "cells.csv")["run_ids"]:
        assert all(run_id in page for run_id in run_ids.split())


def test_latex_tables_are_plain_booktabs_with_as_many_cells_in_every_row(report: Path) -> None:
    paths = sorted(report.glob("*.tex"))
    assert {path.stem for path in paths} == {"cells", "laws", "predictions", "crossovers"}
    for path in paths:
        text = path.read_text()
        assert text.isascii()
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) >= 2
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
        assert not re.search(r"(?<!\\)[%#_]", text.replace("\\label{", "").split("\\caption")[0])
        assert text.count("{") == text.count("}")
        assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0


def test_markup_characters_of_names_are_escaped_for_latex() -> None:
    table = pd.DataFrame({"model": ["a_b & 50% {x} ~ ^ $ # \\"], "n": ["3·10¹⁸"]})
    row = latex(table, "c", "tab:c").splitlines()[6]
    assert row == r"a\_b \& 50\% \{x\} \~{} \^{} \$ \# \textbackslash{} & 3$\cdot$10$^1$$^8$ \\"


def test_check_names_the_changed_cell_and_writes_nothing(
    studies: list[Path], report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(report, tmp_path / "old")
    assert differences(report, tmp_path / "old") == []
    table = pd.read_csv(tmp_path / "old" / "cells.csv")
    table.loc[0, "mean"] = 0.123
    table.to_csv(tmp_path / "old" / "cells.csv", index=False)
    before = contents(tmp_path / "old")
    assert main([*map(str, studies), "--out", str(tmp_path / "old"), "--check"]) == 1
    assert contents(tmp_path / "old") == before
    changes = capsys.readouterr().out.splitlines()
    assert changes[0] == "cells.csv: changed"
    assert changes[1].startswith("  bit-r152x2, mean: 0.123 -> 0.4")
    assert len(changes) == 2


def test_check_without_a_report_says_what_to_do(
    studies: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(studies[0]), "--out", str(tmp_path), "--check"]) == 2
    assert "leaving out --check" in capsys.readouterr().err


def test_analysis_never_imports_the_training_stack() -> None:
    code = (
        "import sys, analysis.report.make_report, analysis.fit, analysis.power;"
        "import analysis.runs.tables.from_csv, analysis.report.published_report;"
        "print(sorted({'torch', 'timm', 'deepspeed', 'ray'} & sys.modules.keys()))"
    )
    assert ast.literal_eval(subprocess.check_output([sys.executable, "-c", code], text=True)) == []
