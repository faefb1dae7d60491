"""Trackers by their real libraries: what a dashboard shows is what events.jsonl holds, also after a restart."""

import logging
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scaling.launch.study_dir import PlannedRun
from scaling.records.attempts.contract import DONE
from scaling.records.events import Event, read_events
from scaling.train.reporting.trackers import OPENERS, Trackers
from tests.support.ranks import codes, start_run
from tests.support.run_folders import checkpoints


def curve(run: PlannedRun, name: str) -> list[tuple[int, float]]:
    """What the records hold of a metric, in the rows that trackers get too."""
    events = read_events(run.run_dir / "events.jsonl").events
    return [(e.step, e.metrics[name]) for e in events if name in e.metrics and e.kind != "done"]


def event(run: PlannedRun, kind: str, step: int, metrics: dict[str, float], attempt: int = 1) -> Event:
    return Event(
        run_id=run.plan.run_id,
        attempt=attempt,
        kind=kind,  # type: ignore[arg-type]
        step=step,
        metrics=metrics,
        **dict.fromkeys(("examples_seen", "unique_examples", "num_devices"), 1),
        **dict.fromkeys(("flops", "train_seconds", "pause_seconds"), 1.0),
        **dict.fromkeys(("device", "precision"), ""),
    )


def test_tensorboard_shows_the_log_and_drops_what_a_restart_superseded(plan_tiny) -> None:
    (run,) = plan_tiny("launch.trackers=[tensorboard]", "defaults.checkpoint_every=10", "protocol.steps=20")
    assert codes(start_run(run.run_dir, 1)) == [DONE]
    # As if it had been killed between its last log row, of step 20, and the checkpoint of step 20.
    (run.run_dir / "result.json").unlink()
    shutil.rmtree(checkpoints(run.run_dir)[-1])
    assert codes(start_run(run.run_dir, 1)) == [DONE]
    shown = EventAccumulator(str(run.run_dir / "tensorboard")).Reload()
    for name in ("loss", "grad_norm", "learning_rate", "images_per_second", "data_wait_seconds", "memory_bytes"):
        values = {point.step: point.value for point in shown.Scalars(name)}
        assert [point.step for point in shown.Scalars(name) if point.step < 20] == [5, 10, 15]
        assert values == pytest.approx(dict(curve(run, name)), rel=1e-6)
    assert "mfu" not in shown.Tags()["scalars"]
    assert {point.step for point in shown.Scalars("upstream/precision_at_1")} == {10, 20}


def test_mlflow_keeps_an_attempt_as_a_run(plan_tiny) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    (run,) = plan_tiny("launch.trackers=[mlflow]")
    for attempt, first in ((1, 0), (2, 5)):
        trackers = Trackers(run.run_dir, run.plan)
        trackers.record(event(run, "start", first, {}, attempt))
        for step in range(first + 1, 9):
            trackers.record(event(run, "step", step, {"loss": 1 / step, "upstream/loss": 2.0}, attempt))
        trackers.close()
    client = mlflow.MlflowClient(f"sqlite:///{run.run_dir.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    found = {r.data.tags["attempt"]: r.info.run_id for r in client.search_runs([experiment.experiment_id])}
    histories = {a: [(m.step, m.value) for m in client.get_metric_history(r, "loss")] for a, r in found.items()}
    assert histories == {"1": [(s, 1 / s) for s in range(1, 9)], "2": [(s, 1 / s) for s in range(6, 9)]}


def test_wandb_writes_its_offline_file(plan_tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (run,) = plan_tiny("launch.trackers=[wandb]")
    trackers = Trackers(run.run_dir, run.plan)
    trackers.record(event(run, "start", 0, {}))
    trackers.record(event(run, "step", 1, {"loss": 0.25}))
    trackers.close()
    (written,) = (run.run_dir / "wandb").glob("offline-run-*/*.wandb")
    assert b"loss" in written.read_bytes() and run.plan.run_id.encode() in written.read_bytes()


def test_trackers_are_no_part_of_the_identity(plan_tiny) -> None:
    (plain,), (tracked,) = plan_tiny(name="plain"), plan_tiny("launch.trackers=[tensorboard, wandb]", name="tracked")
    assert plain.plan.engine.trackers == ()
    assert tracked.plan.engine.trackers == ("tensorboard", "wandb")
    assert plain.plan.identity == tracked.plan.identity


def test_a_tracker_that_fails_is_given_up_with_one_warning(
    plan_tiny, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (run,) = plan_tiny("launch.trackers=[mlflow, tensorboard]")

    def missing(*args: object) -> None:
        raise ModuleNotFoundError("No module named 'mlflow'")

    monkeypatch.setitem(OPENERS, "mlflow", missing)
    (run.run_dir / "tensorboard").write_text("a file where the folder should be")
    trackers = Trackers(run.run_dir, run.plan)
    with caplog.at_level(logging.WARNING):
        for step in range(5):
            trackers.record(event(run, "step", step, {"loss": 1.0}))
        trackers.close()
    reported = [
        record.args[0] for record in caplog.records if record.name == "scaling.train.reporting.trackers" and record.args
    ]  # type: ignore[index]
    assert reported == ["mlflow", "tensorboard"]
