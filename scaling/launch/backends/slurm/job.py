"""Inside a job: `python -m scaling.launch.backends.slurm.job before|task|after|watch BATCH.json`.

    before  notes the end of an attempt whose node was lost, of which Slurm alone knew; runs on the first node
    task    becomes the training process of this task (exec), so that Slurm's signals reach it directly
    after   notes how the attempt ended and queues the job again where that is right; runs on the first node
    watch   ends a run whose heartbeat stands still for `hung_after`; runs on the first node, beside it

Instead of a batch, `after --run RUN_DIR` serves a job that was not submitted by the launcher (`slurm/train.sbatch`).
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from scaling.errors import run_command
from scaling.launch.backends.base import next_step
from scaling.launch.backends.slurm.batch import ArrayJob, batch_of
from scaling.launch.backends.slurm.no_start import no_start, unseen
from scaling.launch.backends.slurm.requeue import Ending, JobView, queues_again, read_view, refine_cause
from scaling.launch.backends.slurm.words import note_end
from scaling.records.attempts.attempt import latest_attempt
from scaling.records.attempts.causes import Cause, Decision, Verdict, cause_of_exit, decide
from scaling.records.attempts.contract import BUSY, FAILED, LEAVE_SIGNALS, MACHINE_TROUBLE
from scaling.records.attempts.ends import End, read_ends, settle_end
from scaling.records.ownership.stop_request import request_stop, requested_stop
from scaling.records.reading import RecordError
from scaling.records.run_dir import RunDir

CONTROLLER_PATIENCE_SECONDS = 300.0
"""How long the end of a job waits for a controller that does not answer, before it gives up queueing it again."""

BUSY_DELAY_SECONDS = 120.0
"""A run that another process holds is looked at again after so long."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scaling.launch.backends.slurm.job", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("before").add_argument("batch", type=Path)
    commands.add_parser("task").add_argument("batch", type=Path)
    commands.add_parser("watch").add_argument("batch", type=Path)
    after = commands.add_parser("after")
    after.add_argument("batch", type=Path, nargs="?")
    after.add_argument("code", type=int)
    after.add_argument("--run", type=Path, help="a run directory, for a job of slurm/train.sbatch")
    after.add_argument("--retries", type=int, default=2)
    after.add_argument("--seconds", type=float, default=float("inf"), help="time limit of the job")
    after.add_argument("--save-before", type=float, default=120.0)
    args = parser.parse_args(argv)
    if args.command == "before":
        return note_lost_attempt(args.batch)
    if args.command == "task":
        return become_training(args.batch)
    if args.command == "watch":
        from scaling.launch.backends.slurm.hung import watch_heartbeat

        batch = ArrayJob.load(args.batch)
        restart = os.environ.get("SLURM_RESTART_COUNT", "0")
        return watch_heartbeat(_run_dir(batch), batch.hung_after or float("inf"), this_job(), restart)
    if args.run is not None:
        return conclude(args.run, args.code, args.retries, args.seconds, args.save_before, owner=None)
    batch = ArrayJob.load(args.batch)
    owner = (batch.nonce, _index())
    return conclude(_run_dir(batch), args.code, batch.retries, batch.seconds, batch.save_before, owner=owner)


def this_job() -> str:
    """Slurm's name of this job: `17_3` in an array. There SLURM_JOB_ID alone may be the number of the whole array."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def note_lost_attempt(batch_path: Path) -> int:
    """0 when the run may be started; else the exit code with which this job ends.

    Slurm queues a job again by itself when its node is gone, and then nobody is left to note how the attempt ended.
    """
    batch = ArrayJob.load(batch_path)
    run_dir = _run_dir(batch)
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    attempt = latest_attempt(run_dir)
    if not restart or attempt is None or not attempt.job.startswith(f"{this_job()}/"):
        return 0
    if any(end.attempt == attempt.attempt for end in read_ends(run_dir).all):
        return 0
    settle_end(run_dir, None, cause=Cause.NODE_FAILED, job=attempt.job, message="its node was lost")
    decision = next_step(run_dir, batch.retries)
    print(f"before: {decision.reason}", flush=True)
    return FAILED if decision.verdict is Verdict.GIVE_UP else 0


def become_training(batch_path: Path) -> int:
    """Replace this process by training; returns an exit code only where there is nothing to train."""
    batch = ArrayJob.load(batch_path)
    run_dir = _run_dir(batch)
    if not RunDir(run_dir).plan.exists():
        print(
            f"error: node {_node()} does not see {run_dir}; put the study on storage that all nodes share", flush=True
        )
        return MACHINE_TROUBLE
    if batch_of(run_dir) not in (None, (batch.nonce, _index())):
        print(f"{run_dir.name} belongs to a later submission; nothing to do", flush=True)
        return BUSY
    # A signal that comes before training listens waits until then; training takes the block away.
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE_SIGNALS)
    words = ["-m", "scaling.train", str(run_dir), "--log", *batch.execution.arguments()]
    return os.execv(sys.executable, [sys.executable, *words])


def conclude(
    run_dir: Path, code: int, retries: int, seconds: float, save_before: float, *, owner: tuple[str, int] | None
) -> int:
    """Note how this job's attempt ended and queue the job again where that is right; returns 0."""
    # What ends this job also ends us, after a while that is enough for a few commands.
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    job = this_job()
    started = float(os.environ.get("SCALING_JOB_START", time.time()))
    ending = Ending(code, time.time() - started, seconds, save_before, _look(job))
    name = f"{job}/{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    try:
        end, decision = _settle(run_dir, ending, retries, name)
        is_ours = owner is None or batch_of(run_dir) in (None, owner)
    except OSError as error:
        print(f"after: node {_node()} cannot write {run_dir} ({error.strerror}); the job ends", flush=True)
        return 0
    again = queues_again(decision, ending, is_ours=is_ours)
    print(
        f"after: code {code}, job {ending.view}: {end.cause}: {decision.reason}; "
        f"{'queued again' if again else 'not queued again'}",
        flush=True,
    )
    if again:
        delay = BUSY_DELAY_SECONDS if end.cause is Cause.BUSY else decision.delay_seconds
        again = _requeue(job, delay, decision.avoid_hosts)
    is_queued = again or (ending.view == "requeued" and is_ours)
    with contextlib.suppress(OSError, RecordError):  # Said for people; the end itself is on the disk.
        note_end(run_dir, job, decision.reason if is_queued else "")
    return 0


def _settle(run_dir: Path, ending: Ending, retries: int, job: str) -> tuple[End, Decision]:
    """The attempt's end on the disk, and what follows from it."""
    last = read_ends(run_dir).last
    # What the run said itself in this job is the truth; the exit code may be that of a partner.
    own = last if last is not None and last.attempt and last.job == job else None
    told = own.cause if own is not None else cause_of_exit(ending.code)
    if RunDir(run_dir).result.exists() and told is Cause.LOST:
        told = Cause.DONE
    cause = refine_cause(told, ending, requested_stop(run_dir))
    if cause is Cause.CANCELLED and requested_stop(run_dir) is None:
        request_stop(run_dir, Cause.CANCELLED)  # scancel by a person: the launcher shall leave it alone as well.
    if own is not None and own.cause is cause:
        end = own
    elif cause is cause_of_exit(ending.code) and own is None:
        attempt = latest_attempt(run_dir)
        has_started = attempt is not None and attempt.job == job
        message = "" if has_started else unseen(run_dir) if cause is Cause.MACHINE_TROUBLE else no_start(ending.code)
        end = settle_end(run_dir, ending.code, job=job, message=message)
    else:
        end = settle_end(run_dir, ending.code, cause=cause, job=job)
    # Nothing is written about a process that was BUSY.
    return end, decide([end], retries) if end.cause is Cause.BUSY else next_step(run_dir, retries)


def _look(job: str) -> JobView:
    """Slurm's view of this job; waits for a controller that is being restarted."""
    deadline = time.monotonic() + CONTROLLER_PATIENCE_SECONDS
    while True:
        command = ["squeue", "--noheader", f"--jobs={job}", "--format=%T|%e"]
        environment = {**os.environ, "SLURM_TIME_FORMAT": "standard"}
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if answer.returncode == 0 or time.monotonic() > deadline:
            state, _, end_time = answer.stdout.strip().partition("|")
            return read_view(state, end_time, datetime.now())
        time.sleep(1)


def _requeue(job: str, delay: float, avoid_hosts: Sequence[str]) -> bool:
    """Whether Slurm took it."""
    answer = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        print(f"after: Slurm did not queue the job again: {answer.stderr.strip()}", flush=True)
        return False
    changes = [f"StartTime=now+{int(delay)}"] if delay else []
    changes += [f"ExcNodeList={','.join(avoid_hosts)}"] if avoid_hosts else []
    for change in changes:
        # Best effort: where Slurm does not take it, the run starts earlier, or on the same node.
        subprocess.run(["scontrol", "update", f"JobId={job}", change], capture_output=True, check=False)
    return True


def _index() -> int:
    return int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))


def _run_dir(batch: ArrayJob) -> Path:
    return Path(batch.runs[_index()])


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME", os.uname().nodename)


if __name__ == "__main__":
    sys.exit(run_command(main))
