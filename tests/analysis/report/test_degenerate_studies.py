"""Studies with nothing in a log, no seconds, no finite number or hostile names still have a report that says so."""

import math
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.report.tables import plain_markdown
from scaling.bench.synthetic_study import METRIC, make_study
from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir

MODELS = ("mixer-b/32", "vit-b/32")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "runs", models=MODELS, fractions=(0.1, 0.3, 1.0), seeds=(0, 1))


def report(study: Path, out: Path, *options: str) -> str:
    assert main([str(study), "--out", str(out), *options]) == 0
    return (out / "report.md").read_text()


def runs(study: Path) -> list[Path]:
    return sorted(path.parent for path in study.glob("*/result.json"))


def test_empty_logs(study: Path, tmp_path: Path, undrawn: None) -> None:
    for run_dir in runs(study):
        RunDir(run_dir).events.write_bytes(b"")
    text = report(study, tmp_path / "report")
    assert "mean" in text and "nan" not in text.lower()


def test_no_seconds_of_training(study: Path, tmp_path: Path, undrawn: None) -> None:
    """A clock that did not move gives no rate, and no infinite one."""
    for run_dir in runs(study):
        result = RunResult.load(run_dir)
        assert result is not None
        none = {"train_seconds": 0.0, "pause_seconds": 0.0, "device_hours": 0.0, "images_per_second": 0.0}
        result.model_copy(update=none).save(run_dir)
    text = report(study, tmp_path / "report")
    assert "inf" not in (tmp_path / "report" / "runs.csv").read_text().replace("inference", "")
    assert "mean" in text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_record_holds_a_metric_that_is_no_number(study: Path, value: float) -> None:
    record = Evaluation.load(runs(study)[0], "unseen")
    assert record is not None
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.model_copy(update={"metrics": {METRIC: value}}).save(runs(study)[0])
    assert Evaluation.load(runs(study)[0], "unseen") == record, "and what was there stays"


def test_links_and_tags_in_a_name_are_text() -> None:
    assert plain_markdown("[x](javascript:alert(1)) <img src=x>") == "[x]\\(javascript:alert(1)) &lt;img src=x>"


def test_a_study_of_one_run(tmp_path: Path) -> None:
    study = make_study(tmp_path / "runs", models=MODELS[:1], fractions=(1.0,), seeds=(0,), num_rows=1)
    assert "mixer" in report(study, tmp_path / "report").lower()
