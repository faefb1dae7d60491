"""A run continued or trained again with other threads, libraries or division of a batch says so, or is refused."""

import shutil
from pathlib import Path

import pytest

from scaling.launch.study_dir import PlannedRun
from scaling.records.attempts.attempt import Attempt, claim_attempt, load_attempt
from scaling.records.attempts.changes import changes_between, changes_of, note_training, used_by
from scaling.records.attempts.contract import BAD_INPUT, DONE
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from tests.support.ranks import codes, start_run
from tests.support.run_folders import checkpoints


def begun(run_dir: Path, **fields: object) -> Attempt:
    """The next attempt, on one thread of one device unless `fields` say otherwise."""
    told = {
        "device": "cpu",
        "num_devices": 1,
        "threads": 1,
        "packages": {"torch": "2.0"},
        "division": {"zero_stage": 0},
    }
    attempt = claim_attempt(run_dir).model_copy(update={**told, **fields})
    attempt.save(run_dir)
    return attempt


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threads": 2}, "threads 2 instead of 1"),
        ({"num_devices": 4}, "processes 4 instead of 1"),
        ({"device": "gpu"}, "device gpu instead of cpu"),
        ({"packages": {"torch": "2.1"}}, "torch 2.1 instead of 2.0"),
        ({"packages": {}}, "torch absent instead of 2.0"),
        ({"division": {"zero_stage": 1}}, "zero stage 1 instead of 0"),
        ({"version": "9"}, "harness 9 instead of"),
        ({"host": "elsewhere", "pid": 1, "git_commit": "f" * 40, "job": "7"}, ""),
    ],
)
def test_each_kind_of_change_is_named(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    run = tmp_path / "study" / "run"
    run.mkdir(parents=True)
    first, second = begun(run), begun(run, **fields)
    changes = changes_of(run, second, 1200, first.attempt)
    assert len(changes) == bool(words)
    assert all(words in change and change.startswith("continued at step 1,200 with ") for change in changes)


def test_changes_follow_the_checkpoints_and_not_the_order_of_attempts(tmp_path: Path) -> None:
    run = tmp_path / "study" / "run"
    run.mkdir(parents=True)
    first, other = begun(run), begun(run, threads=2)
    other = other.model_copy(update={"changes": changes_of(run, other, 10, first.attempt)})
    other.save(run)
    third = begun(run)
    assert changes_of(run, third, 10, first.attempt) == ()
    assert [change.partition(" with ")[2] for change in changes_of(run, third, 20, other.attempt)] == [
        "threads 2 instead of 1",
        "threads 1 instead of 2",
    ]


def test_a_repeat_is_held_against_the_first_training(tmp_path: Path) -> None:
    run = tmp_path / "study" / "run"
    run.mkdir(parents=True)
    first = begun(run)
    assert changes_of(run, begun(run, threads=2), 0, 0) == ()  # Nothing was trained yet that it could repeat.
    note_training(run, first)
    note_training(run, begun(run, threads=3))
    shutil.rmtree(run)
    run.mkdir()
    assert changes_of(run, begun(run, threads=2), 0, 0) == ("trained again with threads 2 instead of 1",)
    RunDir(run).trained.write_text("damaged")
    assert changes_of(run, begun(run, threads=2), 0, 0) == ()


def train(run: PlannedRun, threads: int) -> tuple[int | None, str]:
    """Exit code of one start, and all that the run's log holds."""
    (code,) = codes(start_run(run.run_dir, 1, threads=threads))
    return code, RunDir(run.run_dir).log.read_text()


def plan_again(run: PlannedRun, reproduce: str) -> None:
    """The run's plan as `launch.reproduce` would make it."""
    plan = RunPlan.load(run.run_dir) if (run.run_dir / "run.json").exists() else run.plan
    run.run_dir.mkdir(exist_ok=True)
    plan.model_copy(update={"engine": plan.engine.model_copy(update={"reproduce": reproduce})}).save(run.run_dir)


def test_a_real_run_says_it_or_is_refused(plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=12", "defaults.checkpoint_every=6", "evals=[]", "launch.reproduce=exact")
    assert run.plan.engine.reproduce == "exact"
    assert train(run, 1)[0] == DONE
    first = RunResult.load(run.run_dir)
    assert first.changes == () and load_attempt(run.run_dir, 1).threads == 1
    assert used_by(first)["threads"] == "1"

    shutil.rmtree(checkpoints(run.run_dir)[-1])
    RunDir(run.run_dir).result.unlink()
    code, told = train(run, 2)
    assert code == BAD_INPUT
    assert "this run would be continued at step 6 with threads 2 instead of 1; " in told
    assert RunResult.load(run.run_dir) is None

    plan_again(run, "loose")
    code, told = train(run, 2)
    assert code == DONE
    assert RunResult.load(run.run_dir).changes == ("continued at step 6 with threads 2 instead of 1",)
    assert "continued at step 6 with threads 2 instead of 1: numbers are not bit for bit those of before" in told

    shutil.rmtree(run.run_dir)
    plan_again(run, "exact")
    code, told = train(run, 2)
    assert code == BAD_INPUT and "would be trained again with threads 2 instead of 1" in told


def test_the_words_of_a_change() -> None:
    assert (
        changes_between({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
        == "b 3 instead of 2, c 4 instead of absent"
    )
    assert changes_between({"a": "1"}, {"a": "1"}) == ""
