"""After trouble of this machine: another GPU, a while later, and never at once by a second launcher beside the first.

The processes are played; what they leave in the run's folder and what the back end makes of it is real.
"""

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.launch.backends.base import Resources
from scaling.launch.backends.gpus import Gpu
from scaling.launch.backends.local import backend as module
from scaling.launch.backends.local.backend import LocalBackend
from scaling.launch.backends.local.run import LocalRun, StartError
from scaling.launch.backends.local.slots import Machine, Slot
from scaling.records.attempts.attempt import claim_attempt, latest_number
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.contract import AS_IT_COMES, BAD_INPUT, MACHINE_TROUBLE, Execution
from scaling.records.attempts.ends import End, append_end, read_ends
from scaling.spec.launch_spec import LaunchSpec
from tests.support.run_plans import run_plan

HERE = os.uname().nodename


class Played:
    """One attempt that ends at once."""

    codes: Iterator[int]
    claims = True
    gpus: list[str]

    def __init__(self, run_dir: Path, slot: Slot, locks: int, execution: Execution, server: object) -> None:
        os.close(locks)
        self.run_dir, self.slot, self.pid = run_dir, slot, 1
        self.begun_after = latest_number(run_dir)
        self.gpus.append(slot.gpus[0].uuid)
        if self.claims:
            claim_attempt(run_dir)

    def poll(self) -> int:
        return next(self.codes)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    """A machine with two GPUs, whose runs end with the codes that the test gives."""
    machine = Machine((0, 1), (Gpu("GPU-A", "GPU-A"), Gpu("GPU-B", "GPU-B")))
    monkeypatch.setattr(module, "this_machine", lambda: machine)
    monkeypatch.setattr(module, "LocalRun", Played)
    monkeypatch.setattr("scaling.records.attempts.causes.FIRST_DELAY_SECONDS", 0.2)
    monkeypatch.setattr(Played, "gpus", [], raising=False)
    monkeypatch.setattr(Played, "claims", True)
    return Played


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    plan = run_plan()
    folder = tmp_path / plan.run_id
    folder.mkdir()
    plan.save(folder)
    return folder


def local(retries: int = 5) -> LocalBackend:
    launch = LaunchSpec(retries=retries)
    return LocalBackend(launch, Resources.of(launch))


def poll_until_over(backend: LocalBackend, run_dir: Path) -> str:
    """The reason with which the run is given up."""
    deadline = time.monotonic() + 30
    while (look := backend.poll(run_dir.parent)[run_dir]).phase != "ended":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return look.reason


def test_a_run_that_met_trouble_on_one_gpu_takes_the_other_and_waits_longer_each_time(
    played: type[Played], run_dir: Path
) -> None:
    played.codes = iter([MACHINE_TROUBLE] * 4)
    backend = local(retries=3)
    backend.submit([run_dir], None)
    reason = poll_until_over(backend, run_dir)
    assert "met trouble of its machine" in reason and "launch.retries = 3" in reason
    assert played.gpus[:2] == ["GPU-A", "GPU-B"]
    ends = read_ends(run_dir).all
    assert [(end.cause, end.host) for end in ends] == [(Cause.MACHINE_TROUBLE, HERE)] * 4
    waits = [later.unix_time - earlier.unix_time for earlier, later in itertools.pairwise(ends)]
    assert all(wait >= least for wait, least in zip(waits, (0.2, 0.4, 0.8), strict=True))


def test_a_second_launcher_of_this_machine_waits_as_well_and_one_of_another_does_not(
    played: type[Played], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling.records.attempts.causes.FIRST_DELAY_SECONDS", 50.0)
    played.codes = iter([])
    append_end(run_dir, End(attempt=0, cause=Cause.MACHINE_TROUBLE, host=HERE, unix_time=time.time()))
    beside = local()
    beside.submit([run_dir], None)
    look = beside.poll(run_dir.parent)[run_dir]
    assert look.phase == "queued" and "starts again in" in look.reason
    assert played.gpus == []
    monkeypatch.setattr(module.os, "uname", lambda: os.uname_result(("Linux", "elsewhere", "", "", "")))
    away = local()
    away.submit([run_dir], None)
    assert away.poll(run_dir.parent)[run_dir].phase == "running"
    assert len(played.gpus) == 1


def test_a_process_that_ends_before_it_has_a_number_is_not_started_for_ever(
    played: type[Played], run_dir: Path
) -> None:
    """Its plan was damaged after a pre-emption, say: what the attempt before it said of itself is not its end."""
    append_end(run_dir, End(attempt=claim_attempt(run_dir).attempt, cause=Cause.PREEMPTED, message="SIGTERM"))
    played.claims, played.codes = False, iter([BAD_INPUT] * 3)
    backend = local()
    backend.submit([run_dir], None)
    assert "was given bad input" in poll_until_over(backend, run_dir)
    assert len(played.gpus) == 1


class DyingServer:
    """Starts processes from a real warm server that is killed at each start."""

    def process(self, threads: int, **arguments: object) -> "DyingServer":
        return self

    pid = None

    def start(self) -> None:
        forkserver.ensure_running()
        server: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
        os.kill(server, signal.SIGSTOP)
        threading.Timer(0.3, os.kill, (server, signal.SIGKILL)).start()
        multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(0,)).start()


def test_a_start_that_the_warm_server_does_not_survive_is_tried_again_and_not_for_ever(
    played: type[Played], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = Slot(((0,),), ())
    left = itertools.count(2, -1)

    def start(*arguments: object) -> object:
        if next(left) > 0:
            os.close(arguments[2])  # type: ignore[arg-type]
            raise StartError("unexpected EOF")
        return Played(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "LocalRun", start)
    monkeypatch.setattr(module, "FAILED_START_SECONDS", 0.01)
    played.codes = iter([BAD_INPUT] * 3)
    backend = local()
    backend.submit([run_dir], None)
    assert "was given bad input" in poll_until_over(backend, run_dir)
    left = itertools.count(10**6, -1)
    again = local()
    again.submit([run_dir], None)
    with pytest.raises(UserError, match="no process can be started on this machine"):
        poll_until_over(again, run_dir)
    locks = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(StartError):
        LocalRun(run_dir, slot, locks, AS_IT_COMES, DyingServer())  # type: ignore[arg-type]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(locks)
