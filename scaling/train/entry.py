"""The one door to training: every backend, torchrun and a person's shell come through `train_run`.

No PyTorch is imported before the run is known to be ours to train, so that the launcher may import this module
and a run that is done or busy costs nothing.
"""

import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from scaling.errors import UserError
from scaling.records.attempts.attempt import Attempt, claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.contract import AS_IT_COMES, BUSY, DONE, PREEMPTED, Execution
from scaling.records.attempts.ends import End, append_end, read_ends
from scaling.records.attempts.rank_failures import RankFailure, clear_failures, report_failure, start_token
from scaling.records.files import open_to_append
from scaling.records.ownership.lease import Lease, LeaseLostError
from scaling.records.ownership.leftovers import sweep_leftovers
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.records.standing import STATUS_AFTER, find_standing
from scaling.records.state import RunState
from scaling.train.processes.failures import CODES, classify, describe, is_foreseen
from scaling.train.processes.placement import find_placement
from scaling.train.processes.preemption import PreemptionFlag

logger = logging.getLogger(__name__)


def train_run(
    run_dir: str,
    *,
    watch_parent: bool = False,
    to_terminal: bool = False,
    execution: Execution = AS_IT_COMES,
) -> int:
    """Train and score one run from its run.json; returns an exit code of `attempts.contract`.

    All output goes to the run's log.txt, or stays on the terminal. With `watch_parent` the run saves and leaves when
    the process that started it disappears. `execution` is what this process has of its machine.
    """
    folder = Path(run_dir)
    try:
        placement = find_placement()
        rank = placement.rank
        plan = RunPlan.load(folder)
        RunResult.load(folder, plan)
        # Of several processes one alone might see it, and the others wait for it: they meet first (`session`).
        is_alone = placement.world == 1
        if is_alone and find_standing(folder, plan).is_finished:
            return DONE
        lease = Lease(folder) if rank == 0 else None
        if lease is not None and not lease.acquire():
            return BUSY
        if lease is not None and is_alone and find_standing(folder, plan).is_finished:
            lease.release()  # Its last holder finished it a moment ago.
            return DONE
    except (UserError, OSError) as error:
        print(f"error: {describe(error)}", file=sys.stderr)
        return CODES[classify(error)]
    if not to_terminal:
        _redirect_output(RunDir(folder).log)
    _set_up_logging(rank)
    # Flag first: a signal that arrives while PyTorch is imported must not be lost.
    flag = PreemptionFlag(watch_parent=watch_parent)
    with lease or contextlib.nullcontext():
        code = _attempt(folder, plan, flag, lease, rank, execution)
    if placement.world > 1 and code not in (DONE, PREEMPTED):
        _leave_at_once(code)
    return code


def _attempt(
    folder: Path, plan: RunPlan, flag: PreemptionFlag, lease: Lease | None, rank: int, execution: Execution
) -> int:
    """One attempt by one process; an error that no record has yet is recorded here."""
    started = time.monotonic()
    attempt: Attempt | None = None
    try:
        if lease is not None:
            lease.check()
            sweep_leftovers(folder)
            attempt = claim_attempt(folder, job_name())
            clear_failures(folder, start_token())
            logger.info("run %s, attempt %d, process %d", plan.run_id, attempt.attempt, os.getpid())
        import scaling.train.processes.preload  # noqa: F401
        from scaling.train.session import run_session

        code = run_session(folder, plan, flag, execution, lease, attempt)
    except Exception as error:
        cause = classify(error)
        trace = None if is_foreseen(error) else error
        logger.error("the run ended before its records were open: %s", describe(error), exc_info=trace)
        if attempt is None or lease is None:
            report_failure(folder, RankFailure(rank, cause, describe(error)))
        else:
            _record_end(folder, lease, attempt, cause, describe(error))
        code = CODES[cause]
    logger.info("ended with code %d after %.1f s", code, time.monotonic() - started)
    return code


def _leave_at_once(code: int) -> NoReturn:
    """End a process whose partners may wait for it. Python's own way out would take down communicators, which waits for
    those partners in turn; they see its connections close."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def job_name() -> str:
    """The scheduler's name for this process: what SCALING_JOB says, or Slurm's `ARRAYJOB_TASK/restart`, since
    SLURM_JOB_ID of one task of an array is the name of the whole array; empty without a scheduler."""
    variables = os.environ
    if "SCALING_JOB" in variables:
        return variables["SCALING_JOB"]
    if "SLURM_JOB_ID" not in variables:
        return ""
    if "SLURM_ARRAY_JOB_ID" in variables:
        name = f"{variables['SLURM_ARRAY_JOB_ID']}_{variables.get('SLURM_ARRAY_TASK_ID', '0')}"
    else:
        name = variables["SLURM_JOB_ID"]
    return f"{name}/{variables.get('SLURM_RESTART_COUNT', '0')}"


def _redirect_output(path: Path) -> None:
    """Send everything this process prints, also from C++, to the run's log; where none can be had, it stays."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        with open_to_append(path) as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
    except OSError as error:
        print(f"warning: the run has no log: {error}", file=sys.stderr)


def _set_up_logging(rank: int) -> None:
    """The first process tells what happens; the others only what goes wrong."""
    form = "%(asctime)s %(message)s" if rank == 0 else f"%(asctime)s process {rank}: %(message)s"
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format=form, stream=sys.stderr, force=True)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def _record_end(folder: Path, lease: Lease, attempt: Attempt, cause: Cause, message: str) -> None:
    """An error before the records were open, or one that they could not take, should be found in end and state too."""
    if cause is Cause.BUSY:
        return
    if any(end.attempt == attempt.attempt for end in read_ends(folder).all):
        return
    try:
        lease.check()
        state = RunState.load(folder)
        step = state.step if state.attempt == attempt.attempt else 0
        end = End(
            attempt=attempt.attempt,
            cause=cause,
            code=CODES[cause],
            step=step,
            host=attempt.host,
            job=attempt.job,
            message=message,
            seconds=max(0.0, time.time() - attempt.unix_time),
            unix_time=time.time(),
        )
        told = {"status": STATUS_AFTER[cause], "attempt": attempt.attempt, "step": step, "error": message}
        for write in (lambda: append_end(folder, end), lambda: state.model_copy(update=told).save(folder)):
            # Each is tried: on a full disk one of them may still find room.
            with contextlib.suppress(OSError):
                write()
    except LeaseLostError as error:
        logger.error("%s", error)
