"""Each cause of an end, played in a real process: its exit code, its line in ends.jsonl, where the run then stands and
what the policy makes of it. A lost partner, a hang, a full disk and a failing partner are in test_faults.py; time
limits and lost nodes in tests/launch/backends/slurm."""

import datetime
import os
import resource
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from scaling.bench.synthetic_study import named
from scaling.records.attempts.causes import Cause, Verdict, decide
from scaling.records.attempts.contract import BAD_INPUT, FAILED, MACHINE_TROUBLE, OUT_OF_MEMORY, PREEMPTED
from scaling.records.attempts.ends import read_ends, settle_end
from scaling.records.ownership.stop_request import request_stop
from scaling.records.standing import STATUS_AFTER, find_standing
from tests.support.http_server import serve
from tests.support.ranks import codes, leave_at, start_run

STEP = 7


def at_step(act: Callable[[], None], rank: int) -> None:
    """Do something at the edge after step 7."""
    from scaling.train.loop import Loop

    edge = Loop._edge

    def acts(self: Loop, step: int) -> bool:
        if step == STEP:
            act()
        return edge(self, step)

    Loop._edge = acts  # type: ignore[method-assign]


def take_all_memory() -> None:
    """More than the kernel gives this process: PyTorch's own refusal."""
    import torch

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**27, in_use + 2**27))
    torch.ones(2**30)


def fail() -> None:
    raise ValueError("a defect")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def show_a_gpu_that_is_dead(rank: int) -> None:
    """Whoever started the process gave it a GPU, the machine has its device file, and CUDA finds none."""
    from scaling.train.processes import placement

    os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"
    placement.may_have_gpu = lambda: True


def be_impatient(rank: int) -> None:
    from scaling.data.storage import remote

    remote.MAX_FAILURES, remote.FIRST_PAUSE_SECONDS = 2, 0.01


def be_alone(rank: int) -> None:
    """The second process never comes."""
    from scaling.train.processes import process_group

    process_group.COLLECTIVE_TIMEOUT = datetime.timedelta(seconds=4)
    if rank:
        os._exit(0)


@pytest.mark.parametrize(
    ("prepare", "code", "cause", "words"),
    [
        (partial(leave_at, step=STEP), PREEMPTED, Cause.PREEMPTED, "asked by the test"),
        (partial(at_step, take_all_memory), OUT_OF_MEMORY, Cause.OUT_OF_MEMORY, "take micro_batch: auto"),
        (partial(at_step, fail), FAILED, Cause.FAILED, "ValueError: a defect"),
        (partial(at_step, die), -signal.SIGKILL, Cause.LOST, "killed by signal 9"),
        (show_a_gpu_that_is_dead, MACHINE_TROUBLE, Cause.MACHINE_TROUBLE, "was given the GPU GPU-8932f937"),
    ],
    ids=["pre-empted", "memory", "failed", "lost", "gpu"],
)
def test_one_process(prepare: Callable[[int], None], code: int, cause: Cause, words: str, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=100")
    assert codes(start_run(run.run_dir, 1, prepare)) == [code]
    assert_told(run.run_dir, code, cause, words)
    # A killed process could tell no step, but its last heartbeat's; one without its GPU took none.
    told = {Cause.LOST: range(STEP + 1), Cause.MACHINE_TROUBLE: [0]}.get(cause, [STEP])
    assert read_ends(run.run_dir).all[-1].step in told


@pytest.mark.parametrize("cause", [Cause.CANCELLED, Cause.PRUNED])
def test_a_run_that_is_stopped_for_good(cause: Cause, plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=100")
    request_stop(run.run_dir, cause)  # type: ignore[arg-type]
    assert codes(start_run(run.run_dir, 1, partial(leave_at, step=STEP))) == [PREEMPTED]
    assert_told(run.run_dir, PREEMPTED, cause, "asked by the test")


def test_bad_input_here_a_plan_whose_data_this_code_would_put_in_another_order(plan_tiny) -> None:
    (run,) = plan_tiny()
    named(run.plan.model_copy(update={"order_version": 99})).save(run.run_dir)
    assert codes(start_run(run.run_dir, 1)) == [BAD_INPUT]
    assert_told(run.run_dir, BAD_INPUT, Cause.BAD_INPUT, "version 99 of the order")


def test_storage_that_stays_away_is_no_bad_input(plan_tiny, tiny_data: Path) -> None:
    """The server of the shards is there while the study is planned and gone when it is trained."""
    with serve(tiny_data) as server:
        (run,) = plan_tiny(f"data.root={server.url}", "evals=[]")
    server.server_close()
    assert codes(start_run(run.run_dir, 1, be_impatient)) == [MACHINE_TROUBLE]
    assert_told(run.run_dir, MACHINE_TROUBLE, Cause.MACHINE_TROUBLE, "failed 2 times in a row")


def test_a_partner_that_never_comes(plan_tiny) -> None:
    (run,) = plan_tiny()
    assert codes(start_run(run.run_dir, 2, be_alone)) == [MACHINE_TROUBLE, 0]
    assert_told(run.run_dir, MACHINE_TROUBLE, Cause.MACHINE_TROUBLE, "could not be joined")


def assert_told(run_dir: Path, code: int, cause: Cause, words: str) -> None:
    """The end as the run, or who started it, records it; and what follows."""
    end = settle_end(run_dir, code, begun_after=0)
    assert (end.attempt, end.cause) == (1, cause)
    assert words in end.message
    assert read_ends(run_dir).all == (end,)
    standing = find_standing(run_dir)
    assert (standing.status, standing.is_alive) == (STATUS_AFTER[cause], False)
    assert words in standing.reason or cause in (Cause.CANCELLED, Cause.PRUNED)
    decision = decide([end], retries=1)
    counted = (Cause.LOST, Cause.OUT_OF_MEMORY, Cause.MACHINE_TROUBLE)
    expected = Verdict.RETRY_COUNTED if cause in counted else Verdict.GIVE_UP
    assert decision.verdict is (Verdict.RETRY_FREE if cause is Cause.PREEMPTED else expected)
    assert bool(decision.avoid_hosts) == (cause is Cause.MACHINE_TROUBLE)
