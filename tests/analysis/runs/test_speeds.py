"""Throughput measured apart from training: it takes the place of what runs measured, and places never meet."""

from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.comparison.matched_cost import at_matched_speed
from analysis.figures.accuracy_vs_throughput import BUSY_MARK, accuracy_vs_throughput
from analysis.figures.canvas.style import drawing_style
from analysis.figures.compute.evaluation_costs import evaluations_vs_compute, evaluations_vs_throughput
from analysis.report.tables import speed_table
from analysis.runs.evaluations import evaluation_metrics
from analysis.runs.load import load_records
from analysis.runs.speeds import places, speeds, with_throughput
from analysis.runs.summary import cells
from scaling.errors import UserError
from scaling.records.run_dir import StudyDir
from scaling.records.scores.throughput import append_row
from tests.support.synthetic_study import METRIC, make_study
from tests.support.throughput_rows import make_row

MODELS = ["mixer-b/32", "vit-b/32", "mixer-l/16"]

BUSY = ("other processes took 0.40 of its 1 core",)


def measured(model: str, rate: float, **fields: object):
    rates = (0.9 * rate, rate, 1.1 * rate)
    quartiles = {"images_per_second": rate, "lower_quartile": 0.95 * rate, "upper_quartile": 1.05 * rate}
    return make_row(model, rates, num_classes=100, **quartiles, **fields)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("speeds"), models=MODELS, seeds=(0, 1), fractions=(0.1, 1.0))


def test_rows_take_the_place_of_what_the_runs_measured(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, measured("mixer-b/32", 500.0))
    append_row(path, measured("vit-b/32", 400.0, disturbances=BUSY))
    append_row(path, measured("vit-b/32", 7.0, image_size=448))
    records = with_throughput(load_records([study]), [path])
    table = speeds(records)
    assert dict(zip(table["model"], table["throughput_median"], strict=True)) == {"mixer-b/32": 500, "vit-b/32": 400}
    with drawing_style():
        (drawing,) = accuracy_vs_throughput(records, cells(records, METRIC), METRIC)
    assert drawing.points["throughput_low"].tolist() == pytest.approx([475, 380])
    # The busy machine is marked in the figure, its caption and the table; the model without a row is named.
    texts = [note.get_text() for note in drawing.figure.axes[0].texts]
    assert f"ViT-B/32 {BUSY_MARK}" in texts and "Mixer-B/32" in texts
    assert f"(ViT-B/32: {BUSY[0]})" in drawing.caption and "not drawn: Mixer-L/16" in drawing.caption
    ((_, rows),) = places(table)
    assert speed_table(records, rows)["machine"].tolist() == ["quiet", f"busy: {BUSY[0]}"]


def test_a_front_is_told_where_one_is_drawn(study: Path, tmp_path: Path) -> None:
    records = load_records([study])
    table = cells(records, METRIC)
    best, *_, worst = table.groupby("model")["mean"].last().sort_values(ascending=False).index
    for fast, slow, has_front in ((best, worst, False), (worst, best, True)):
        path = tmp_path / f"{has_front}.jsonl"
        append_row(path, measured(fast, 500.0))
        append_row(path, measured(slow, 400.0))
        with drawing_style():
            (drawing,) = accuracy_vs_throughput(with_throughput(records, [path]), table, METRIC)
        texts = " ".join(note.get_text() for note in drawing.figure.axes[0].texts)
        assert ("dotted" in texts, "dotted" in drawing.caption) == (has_front, has_front)
        assert ("One model is the fastest and the best" in drawing.caption) != has_front


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"device": "Other GPU"}, "Other GPU, fp32"),
        ({"precision": "bf16"}, "Test CPU, bf16"),
        ({"packages": {"torch": "2.9", "timm": "1.0"}}, "torch 2.9, timm 1.0"),
        ({"threads": 4}, "4 threads"),
        ({"compile_mode": "default"}, "compiled (default)"),
        ({"work": "training"}, "training"),
    ],
)
def test_places_never_meet_in_a_figure_or_a_comparison(
    changed: dict[str, object], told: str, study: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    for model, rate in (("mixer-b/32", 4000.0), ("mixer-l/16", 400.0)):
        append_row(path, measured(model, rate))
        append_row(path, measured(model, 10 * rate, **changed))
    records = with_throughput(load_records([study]), [path])
    with drawing_style():
        drawings = accuracy_vs_throughput(records, cells(records, METRIC), METRIC)
    assert [len(drawing.points) for drawing in drawings] == [2, 2]
    assert len({drawing.name for drawing in drawings}) == 2
    assert any(told in drawing.figure.axes[0].get_xlabel() for drawing in drawings)
    for drawing in drawings:
        high, low = sorted(drawing.points["throughput_median"], reverse=True)
        assert high == 10 * low, "both models of a figure were measured alike"


def test_families_are_matched_at_the_rates_of_one_place(study: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rates = {"mixer-b/32": 4000.0, "mixer-l/16": 400.0, "vit-b/32": 1000.0}
    for model, rate in rates.items():
        append_row(path, measured(model, rate))
    records = with_throughput(load_records([study]), [path])
    assert at_matched_speed(records, METRIC).empty, "one ViT has no range to interpolate in"
    more = make_study(tmp_path, name="more", models=["vit-l/16"], seeds=(0, 1), fractions=(0.1, 1.0))
    append_row(path, measured("vit-l/16", 500.0))
    table = at_matched_speed(with_throughput(load_records([study, more]), [path]), METRIC)
    assert table["at"].min() == pytest.approx(500) and table["at"].max() == pytest.approx(1000)
    assert set(table["matched"]) == {"throughput/images_per_second"}


def test_a_studys_own_rows_are_found(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=MODELS[:2], seeds=(0,), fractions=(1.0,))
    append_row(StudyDir(study).throughput, measured("mixer-b/32", 500.0))
    records = load_records([study])
    assert speeds(records)["source"].tolist() == ["alone"]
    StudyDir(study).throughput.write_text("torn")
    assert set(speeds(load_records([study]))["source"]) == {"runs"}


def test_every_evaluation_is_drawn_against_both_costs(study: Path) -> None:
    records = load_records([study])
    metrics = [METRIC, "unseen/10shot_top1", "upstream/precision_at_1"]
    with drawing_style():
        compute = evaluations_vs_compute(records, metrics)
        (speed,) = evaluations_vs_throughput(records, metrics)
    assert compute is not None
    for drawing in (compute, speed):
        titles = [panel.get_title(loc="left") for panel in drawing.figure.axes]
        assert titles == [records.metric(name).title for name in metrics]
        assert not any(BUSY_MARK in text.get_text() for text in drawing.figure.legends[0].get_texts())
    for metric, rows in compute.points.groupby("metric"):
        expected = records.runs.groupby(["model", "num_images"])[metric].mean()
        assert {(row.model, row.num_images): row.mean for row in rows.itertuples()} == pytest.approx(expected.to_dict())
        flops = records.runs.groupby("model")["flops"].mean()
        assert {row.model: row.x for row in rows.itertuples()} == pytest.approx(flops.to_dict())


def test_the_mean_of_a_suite_is_drawn_like_any_evaluation(study: Path) -> None:
    records = load_records([study])
    records.runs["tasks/mean_top1"] = records.runs[METRIC] - 0.1
    metrics = evaluation_metrics(records)
    assert "tasks/mean_top1" in metrics
    with drawing_style():
        drawing = evaluations_vs_compute(records, metrics)
        (headline,) = accuracy_vs_throughput(records, cells(records, "tasks/mean_top1"), "tasks/mean_top1")
    assert drawing is not None and "tasks/mean_top1" in set(drawing.points["metric"])
    assert headline.figure.axes[0].get_ylabel() == "tasks: mean top1, %"


def test_a_file_about_other_models_is_one_sentence(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, measured("bit-r50x1", 10.0))
    with pytest.raises(UserError, match=r"no row is about a model.*measured is bit-r50x1 at 224 px"):
        with_throughput(load_records([study]), [path])
    fitting = tmp_path / "fitting.jsonl"
    append_row(fitting, measured("mixer-b/32", 10.0))
    with pytest.raises(UserError, match=f"--throughput {path}: no row"):
        with_throughput(load_records([study]), [fitting, path])
    assert main([str(study), "--throughput", str(tmp_path / "none.jsonl"), "--out", str(tmp_path)]) == 2
    assert "no such file" in capsys.readouterr().err
