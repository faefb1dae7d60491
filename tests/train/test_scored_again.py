"""Trained runs that are scored again, after another evaluation was planned: from the weights that they kept."""

import pytest

from scaling.records.attempts.contract import BAD_INPUT
from scaling.records.run_dir import RunDir
from scaling.spec.launch_spec import LaunchSpec
from tests.support.local_runs import LocalRuns as LocalBackend
from tests.support.local_runs import few_shot, train, wait


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(LaunchSpec())


def test_a_new_evaluation_scores_the_kept_weights_without_training(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=10")
    first = train(backend, run)
    content = RunDir(run.run_dir).result.read_bytes()
    seconds = first.train_seconds + first.pause_seconds
    assert first.device_hours == pytest.approx(seconds / 3600), "without the evaluation that was planned with it"
    first_scores = few_shot(run)
    (again,) = plan_tiny("protocol.steps=10", "evals.0.shots=[1, 2]")
    assert again.standing.told == "done, to be scored"
    assert again.run_dir == run.run_dir
    second = train(backend, again)
    second_scores = few_shot(again)
    assert second_scores["fewshot/2shot_top1"] == first_scores["fewshot/2shot_top1"]
    assert second_scores["fewshot/1shot_top1"] > 0.25
    assert RunDir(run.run_dir).result.read_bytes() == content, "what training found and cost stays"
    assert second.device_hours == first.device_hours


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_kept_weights_of_a_trained_run_are_put_back_from_a_checkpoint(
    damage: str, backend: LocalBackend, plan_tiny
) -> None:
    (run,) = plan_tiny("protocol.steps=10")
    train(backend, run)
    path, scores = RunDir(run.run_dir).best_weights, few_shot(run)
    whole = path.read_bytes()
    (again,) = plan_tiny("protocol.steps=10", "evals.0.shots=[1, 2]")
    path.unlink() if damage == "missing" else path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    train(backend, again)
    assert path.read_bytes() == whole
    assert few_shot(again)["fewshot/2shot_top1"] == scores["fewshot/2shot_top1"]
    assert "put back from" in RunDir(run.run_dir).log.read_text()


def test_without_a_copy_nothing_is_scored(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=10")
    train(backend, run)
    path = RunDir(run.run_dir).best_weights
    for copy in path.parent.parent.glob("*/best.safetensors"):
        copy.unlink()
    path.unlink()
    (again,) = plan_tiny("protocol.steps=10", "evals.0.shots=[1, 2]")
    backend.start(again.run_dir)
    assert wait(backend, again) == BAD_INPUT
    assert "no checkpoint of the run holds a copy" in (again.run_dir / "log.txt").read_text()
