"""The one door to training: every backend, torchrun and a person's shell come through `train_run`.

No PyTorch is imported before the run is known to be ours to train, so that the launcher may import this module
and a run that is done or busy costs nothing.
"""

import logging
import os
import sys
import time
from pathlib import Path

from scaling.errors import UserError
from scaling.records.exit_codes import BAD_INPUT, BUSY, DONE, FAILED
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunLock, RunState
from scaling.train.failures import describe
from scaling.train.preemption import PreemptionFlag

logger = logging.getLogger(__name__)


def train_run(run_dir: str, *, watch_parent: bool = False, to_terminal: bool = False) -> int:
    """Train and score one run from its run.json; returns one of `exit_codes`.

    All output goes to the run's log.txt, or stays on the terminal. With `watch_parent` the run saves and leaves when
    the process that started it disappears.
    """
    folder = Path(run_dir)
    rank = int(os.environ.get("RANK", "0"))
    try:
        plan = RunPlan.load(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    result = RunResult.load(folder)
    if result is not None and all(result.evals.get(plan_.name) == plan_.digest() for plan_ in plan.evals):
        return DONE
    lock = RunLock(folder)
    if rank == 0 and not lock.acquire():
        return BUSY
    if not to_terminal:
        _redirect_output(folder / "log.txt")
    _set_up_logging(rank)
    started = time.monotonic()
    logger.info("run %s, attempt %d, process %d", plan.run_id, RunState.load(folder).attempt + 1, os.getpid())
    # Flag first: a signal that arrives while PyTorch is imported must not be lost.
    flag = PreemptionFlag(watch_parent=watch_parent)
    try:
        import scaling.train.preload  # noqa: F401
        from scaling.train.session import run_session

        code = run_session(folder, plan, flag)
    except Exception as error:
        logger.exception("the run failed outside of its records")
        if rank == 0:
            _ensure_failed(folder, describe(error))
        return FAILED
    finally:
        lock.release()
    logger.info("ended with code %d after %.1f s", code, time.monotonic() - started)
    return code


def _redirect_output(path: Path) -> None:
    """Send everything this process prints, also from C++, to the run's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _set_up_logging(rank: int) -> None:
    """The first process tells what happens; the others only what goes wrong."""
    form = "%(asctime)s %(message)s" if rank == 0 else f"%(asctime)s process {rank}: %(message)s"
    level = logging.INFO if rank == 0 else logging.WARNING
    logging.basicConfig(level=level, format=form, stream=sys.stderr, force=True)
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def _ensure_failed(folder: Path, message: str) -> None:
    """An error before the records were open, or one that they could not take, should be found in the state too."""
    try:
        state = RunState.load(folder)
        if state.status != "failed":
            failed = {"status": "failed", "attempt": max(1, state.attempt), "error": message}
            state.model_copy(update=failed).save(folder)
    except OSError as error:
        logger.error("the state could not be written either: %s", error)
