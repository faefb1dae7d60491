"""Real runs: DeepSpeed, real tars, real processes, real signals. Every run here trains a few seconds at most."""

import contextlib
import json
import os
import platform
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.bench.synthetic_study import named
from scaling.launch.study_dir import PlannedRun, find_standings
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.contract import BAD_INPUT, BUSY, DONE, FAILED, PREEMPTED
from scaling.records.events import read_events
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.state import RunState
from scaling.records.study import load_run, read_study
from scaling.spec.launch_spec import LaunchSpec
from scaling.status.command import describe
from scaling.train.entry import train_run
from scaling.train.step.rules import learning_rate_at
from tests.chaos.numbers import differences, numbers
from tests.support.local_runs import LocalRuns as LocalBackend
from tests.support.local_runs import few_shot, scored, train, wait
from tests.support.ranks import codes, start_run
from tests.support.run_folders import checkpoints

TIMES = {"images_per_second", "data_wait_seconds", "memory_bytes"}
"""Metrics that measure the machine and not the model."""


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    return LocalBackend(LaunchSpec())


def kept_weights(run: PlannedRun) -> dict[str, torch.Tensor]:
    return load_file(run.run_dir / "checkpoints" / "best" / "model.safetensors")


def last_state(run: PlannedRun) -> dict[str, torch.Tensor]:
    return load_file(checkpoints(run.run_dir)[-1] / "state.safetensors")


def assert_same_run(one: PlannedRun, other: PlannedRun) -> None:
    """Bit for bit: kept weights, final weights, every metric that is not a time, in the result and in the log."""
    assert not differences(numbers(one.run_dir), numbers(other.run_dir), set())
    for a, b in ((kept_weights(one), kept_weights(other)), (last_state(one), last_state(other))):
        assert a.keys() == b.keys()
        for name in a:
            assert torch.equal(a[name], b[name]), name
    first, second = scored(one), scored(other)
    names = first.metrics.keys() - TIMES
    assert names == second.metrics.keys() - TIMES
    assert {name: first.metrics[name] for name in names} == {name: second.metrics[name] for name in names}
    assert first.best_step == second.best_step


def poison(rank: int, bad_rank: int, steps: tuple[int, ...]) -> None:
    """Make the loss of some steps NaN on one process, and check that such steps leave the weights as they were."""
    from scaling.train.step import engine

    loss, train_step = engine.upstream_loss, engine.Engine.train_step
    now = [0]

    def poisoned(*args):
        return loss(*args) * (float("nan") if now[0] in steps and rank == bad_rank else 1.0)

    def watched(self, step, images, labels):
        now[0] = step
        before = [p.detach().clone() for p in self.model.parameters()]
        answer = train_step(self, step, images, labels)
        if all(torch.equal(a, b) for a, b in zip(before, self.model.parameters(), strict=True)) and rank == 0:
            print(f"step {step} changed nothing", flush=True)
        return answer

    engine.upstream_loss, engine.Engine.train_step = poisoned, watched


def test_a_run_learns_and_leaves_its_records(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny()
    result = train(backend, run)
    assert result.metrics["upstream/precision_at_1"] > 0.9  # Four colours; chance is 0.25.
    assert few_shot(run)["fewshot/2shot_top1"] > 0.5  # The colours are noisy, two images are few; chance is 0.25.
    assert result.examples_seen == 30 * 16
    assert result.unique_examples == 100
    assert result.flops == pytest.approx(480 * run.plan.model.flops_train_per_image)
    events = read_events(run.run_dir / "events.jsonl").events
    kinds = [event.kind for event in events]
    assert kinds[0] == "start" and kinds[-1] == "done"
    assert [event.step for event in events if event.kind == "step"] == [5, 10, 15, 20, 25, 30]
    assert [event.step for event in events if event.kind == "checkpoint"] == [5, 10, 15, 20, 25, 30]
    seconds = [event.train_seconds for event in events if event.kind != "checkpoint"]
    assert seconds == sorted(seconds)
    assert RunState.load(run.run_dir).status == "done"
    kept = [path.name for path in checkpoints(run.run_dir)]
    assert kept == ["step_00000025_attempt1", "step_00000030_attempt1"]


def test_a_finished_run_is_not_trained_again(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=6")
    train(backend, run)
    before = {path: path.stat().st_mtime_ns for path in run.run_dir.rglob("*") if path.is_file()}
    train(backend, run)
    assert {path: path.stat().st_mtime_ns for path in run.run_dir.rglob("*") if path.is_file()} == before


NUM_KILLS = 20


def test_killed_at_twenty_random_moments_it_ends_bit_for_bit_as_if_never_killed(
    backend: LocalBackend, plan_tiny
) -> None:
    """`kill -9` while starting, stepping, saving or scoring, wherever it hits; a run that ends before is done again."""
    options = ("protocol.steps=60", "defaults.drop_path=0.2")
    (unbroken,) = plan_tiny(*options, name="unbroken")
    result = train(backend, unbroken)
    length = result.train_seconds + result.pause_seconds
    moments = random.Random(0)
    kills, restarts = 0, set()
    for number in range(NUM_KILLS):
        (killed,) = plan_tiny(*options, name=f"killed-{number}")
        while kills < NUM_KILLS:
            attempt = RunState.load(killed.run_dir).attempt
            backend.start(killed.run_dir)
            while RunState.load(killed.run_dir).attempt == attempt:
                time.sleep(0.002)
            time.sleep(moments.uniform(0, 0.7) * length)
            with contextlib.suppress(ProcessLookupError):
                os.kill(RunState.load(killed.run_dir).pid, signal.SIGKILL)
            code = wait(backend, killed)
            assert code in (-signal.SIGKILL, DONE)
            if code == DONE:
                break
            kills += 1
            if RunResult.load(killed.run_dir) is not None:
                break  # It had written its result already, so a further start has nothing to do.
        train(backend, killed)
        assert_same_run(unbroken, killed)
        restarts |= {e.step for e in read_events(killed.run_dir / "events.jsonl").events if e.kind == "start"}
        if kills == NUM_KILLS:
            break
    assert kills == NUM_KILLS
    assert len(restarts) > 3


def test_sigterm_saves_leaves_and_continues_bit_for_bit(backend: LocalBackend, plan_tiny) -> None:
    (unbroken,) = plan_tiny("protocol.steps=60", "defaults.checkpoint_every=100%", name="unbroken")
    (asked,) = plan_tiny("protocol.steps=60", "defaults.checkpoint_every=100%", name="asked")
    train(backend, unbroken)
    backend.start(asked.run_dir)
    events = asked.run_dir / "events.jsonl"
    while sum(event.kind == "step" for event in read_events(events).events) < 2:
        time.sleep(0.01)
    os.kill(RunState.load(asked.run_dir).pid, signal.SIGTERM)
    assert wait(backend, asked) == PREEMPTED
    state = RunState.load(asked.run_dir)
    assert state.status == "preempted"
    assert 10 <= state.step < 60
    result = train(backend, asked)
    assert result.attempts == 2
    assert_same_run(unbroken, asked)
    rows = [event.step for event in read_events(events).events if event.kind == "step"]
    assert rows == list(range(5, 61, 5))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def lose_a_block(path: Path) -> None:
    """As many bytes as before, and a readable header."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 512] = bytes(512)
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["state.safetensors", "best.safetensors"])
@pytest.mark.parametrize("damage", [cut_short, lose_a_block])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], None], file: str, backend: LocalBackend, plan_tiny
) -> None:
    (unbroken,) = plan_tiny(name="unbroken")
    (torn,) = plan_tiny(name="torn")
    train(backend, unbroken)
    train(backend, torn)
    (torn.run_dir / "result.json").unlink()
    damage(checkpoints(torn.run_dir)[-1] / file)
    train(backend, torn)
    assert "checkpoint step_00000030_attempt1 cannot be read" in (torn.run_dir / "log.txt").read_text()
    assert_same_run(unbroken, torn)


def test_a_checkpoint_without_its_marker_does_not_count(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=10")
    train(backend, run)
    (run.run_dir / "result.json").unlink()
    for marker in run.run_dir.glob("checkpoints/step_*/COMPLETE"):
        marker.unlink()
    train(backend, run)
    starts = [event.step for event in read_events(run.run_dir / "events.jsonl").events if event.kind == "start"]
    assert starts[-1] == 0


def test_two_processes_train_what_one_trains(backend: LocalBackend, plan_tiny) -> None:
    """Same global batch, same samples, same steps: loss, gradient norm and validation agree throughout.

    Sums over two halves round differently (1e-7), and Adam amplifies that over 30 steps. Weights are not compared:
    some biases have a gradient of exactly zero, whose rounding noise Adam scales up to full steps.
    """
    (alone,) = plan_tiny(name="alone")
    (together,) = plan_tiny(name="together")
    one = train(backend, alone)
    two = train(LocalBackend(LaunchSpec(devices_per_run=2)), together)
    assert (one.num_devices, two.num_devices) == (1, 2)
    logs = [read_events(run.run_dir / "events.jsonl").events for run in (alone, together)]
    for name, tolerance in {"loss": 1e-4, "grad_norm": 1e-3, "upstream/loss": 1e-4}.items():
        curves = [[event.metrics[name] for event in log if name in event.metrics] for log in logs]
        assert len(curves[0]) >= 3
        assert curves[1] == pytest.approx(curves[0], rel=tolerance)


def test_a_run_held_by_a_living_process_is_busy(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=200")
    backend.start(run.run_dir)
    while RunState.load(run.run_dir).status != "running":
        time.sleep(0.01)
    assert train_run(str(run.run_dir)) == BUSY
    backend.stop()
    assert RunState.load(run.run_dir).status == "preempted"


@pytest.mark.parametrize(
    ("is_here", "silent_seconds", "status"),
    [(True, 1.0, "preempted"), (False, 1.0, "running"), (False, 100.0, "preempted")],
)
def test_status_shows_a_killed_run_of_this_machine_at_once(
    is_here: bool, silent_seconds: float, status: str, plan_tiny
) -> None:
    """Whether a process of another machine lives cannot be asked here, so its lease is believed for a minute."""
    (run,) = plan_tiny()
    beat = time.time() - silent_seconds
    claim_attempt(run.run_dir)
    RunState(status="running", attempt=1, step=3, heartbeat_unix_time=beat).save(run.run_dir)
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip() if is_here else "another"
    holder = {"name": "gone", "host": platform.node() if is_here else "elsewhere", "pid": 1, "kernel": kernel}
    lease = RunDir(run.run_dir).lease
    lease.write_text(json.dumps(holder))
    os.utime(lease, (beat, beat))
    (record,) = read_study(run.run_dir.parent).runs
    assert describe(record)["status"] == status


def test_a_loss_that_is_not_a_number_fails_with_step_rate_and_checkpoint(backend: LocalBackend, plan_tiny) -> None:
    (run,) = plan_tiny("defaults.learning_rate=1e30", "defaults.clip=0")
    backend.start(run.run_dir)
    assert wait(backend, run) == FAILED
    error = RunState.load(run.run_dir).error
    assert "learning rate" in error and "there is no checkpoint yet" in error and "set clip" in error
    assert read_events(run.run_dir / "events.jsonl").events[-1].kind == "failed"


def test_the_first_step_that_is_not_a_number_is_named(plan_tiny) -> None:
    """Within a row of five steps, with the learning rate of that step and the last checkpoint before it."""
    (run,) = plan_tiny("defaults.checkpoint_every=5steps")
    assert codes(start_run(run.run_dir, 2, partial(poison, bad_rank=1, steps=(8, 10)))) == [FAILED, FAILED]
    error = RunState.load(run.run_dir).error
    rate = learning_rate_at(8, run.plan.schedule, run.plan.recipe)
    assert f"first at step 8, where the learning rate is {rate:.3g}" in error
    assert "the last good checkpoint is of step 5" in error


def test_patience_ends_a_run_and_a_restart_keeps_the_count(backend: LocalBackend, plan_tiny) -> None:
    """At a learning rate that changes nothing no validation after the first is better."""
    options = ("defaults.learning_rate=1e-30", "defaults.end_learning_rate=0", "defaults.patience=3")
    often = ("protocol.steps=200", "defaults.validate_every=5", "defaults.checkpoint_every=7")
    (unbroken,) = plan_tiny(*options, *often, name="unbroken")
    (broken,) = plan_tiny(*options, *often, name="broken")
    result = train(backend, unbroken)
    assert (result.best_step, result.steps, result.stopped_early) == (5, 20, True)
    assert result.examples_seen == 20 * 16
    assert result.flops == 20 * 16 * unbroken.plan.model.flops_train_per_image
    last = read_events(unbroken.run_dir / "events.jsonl").events[-1]
    assert (last.kind, last.step, last.flops) == ("done", 20, result.flops) and "patience" in last.message
    assert find_standings(unbroken.run_dir.parent, [unbroken.plan])[0].standing.is_finished
    assert describe(load_run(unbroken.run_dir))["stopped_early"]
    train(backend, broken)
    (broken.run_dir / "result.json").unlink()
    shutil.rmtree(checkpoints(broken.run_dir)[-1])
    again = train(backend, broken)
    assert again.steps == 20
    assert [e.step for e in read_events(broken.run_dir / "events.jsonl").events if e.kind == "start"] == [0, 14]
    (broken.run_dir / "result.json").unlink()
    assert train(backend, broken).steps == 20


@pytest.mark.parametrize("zero_stage", [0, 2])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_skipped_step_changes_nothing_and_is_counted(optimizer: str, zero_stage: int, plan_tiny) -> None:
    """The loss of steps 1 and 4 is NaN on the second process only, and no process takes those steps."""
    options = (f"defaults.optimizer={optimizer}", f"defaults.zero_stage={zero_stage}", "protocol.steps=10")
    (run,) = plan_tiny(*options, "defaults.non_finite=skip", "defaults.learning_rate=1e-3")
    assert codes(start_run(run.run_dir, 2, partial(poison, bad_rank=1, steps=(1, 4)))) == [DONE, DONE]
    result = RunResult.load(run.run_dir)
    assert result is not None and result.metrics["skipped_steps"] == 2
    log = (run.run_dir / "log.txt").read_text()
    assert "2 of the steps 1 to 5 were skipped, last step 4 (learning rate" in log and "no checkpoint yet" in log
    assert all(bool(torch.isfinite(tensor).all()) for tensor in last_state(run).values())
    assert re.findall(r"step (\d+) changed nothing", log) == ["1", "4"]


def test_a_run_in_which_every_step_is_skipped_ends(plan_tiny) -> None:
    (run,) = plan_tiny("defaults.non_finite=skip")
    assert codes(start_run(run.run_dir, 1, partial(poison, bad_rank=0, steps=tuple(range(31))))) == [FAILED]
    error = RunState.load(run.run_dir).error
    assert "in steps 1 to 5, last at step 5" in error and "no checkpoint yet" in error


def test_changed_data_is_refused(backend: LocalBackend, plan_tiny, tmp_path: Path) -> None:
    (run,) = plan_tiny("protocol.steps=5")
    train_data = run.plan.train.model_copy(update={"digest": "0" * 64})
    named(run.plan.model_copy(update={"train": train_data})).save(run.run_dir)
    backend.start(run.run_dir)
    assert wait(backend, run) == BAD_INPUT
    assert "changed since the run was planned" in RunState.load(run.run_dir).error
