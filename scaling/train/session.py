"""One attempt at one run, from its plan to its result; the only module that knows the order of things.

    1. meet the other processes, seed, build model and engine, restore the newest checkpoint
    2. train (`loop`)
    3. score the kept weights and write the result (`scoring`; first process alone)

Whatever ends it early is recorded before the processes part, with the reason of the process that failed first.
"""

import logging
import time
from pathlib import Path

import torch

from scaling.errors import UserError
from scaling.records.exit_codes import DONE, FAILED, LOST_PARTNER, PREEMPTED
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.train.batching import plan_batching
from scaling.train.checkpoint import CheckpointStore
from scaling.train.clock import Clock
from scaling.train.engine import build_engine
from scaling.train.failures import describe, forget_words, leave_word, read_words
from scaling.train.loop import Loop
from scaling.train.micro_batch import find_micro_batch
from scaling.train.preemption import PreemptionFlag
from scaling.train.process_group import Processes, is_lost_partner, join_processes
from scaling.train.recorder import Recorder
from scaling.train.scoring import Scoring, build_planned

logger = logging.getLogger(__name__)

WORD_PATIENCE_SECONDS = 2.0
"""How long the first process waits for a failing partner's own account of it."""


def run_session(run_dir: Path, plan: RunPlan, flag: PreemptionFlag) -> int:
    """Train, score and record; returns the exit code."""
    if plan.engine.threads:
        torch.set_num_threads(plan.engine.threads)
    with join_processes() as processes:
        if processes.is_first:
            forget_words(run_dir)
        recorder = Recorder(run_dir, plan, device=processes.device, world=processes.world, is_first=processes.is_first)
        try:
            return _train_and_score(run_dir, plan, flag, processes, recorder)
        except Exception as error:
            return _end_early(run_dir, processes, recorder, error)
        finally:
            recorder.close()


def _train_and_score(
    run_dir: Path, plan: RunPlan, flag: PreemptionFlag, processes: Processes, recorder: Recorder
) -> int:
    store = CheckpointStore(run_dir, plan.identity, plan.intervals.keep_checkpoints, processes)
    scoring = Scoring(run_dir, plan, store.best_path, flag, processes, recorder)
    # A result may appear while processes start; all of them go by what the first one finds.
    result = RunResult.load(run_dir)
    if processes.any(processes.is_first and result is not None):
        return scoring.complete(result) if result is not None and processes.is_first else DONE
    micro_batch = plan.engine.micro_batch
    if plan.engine.auto_micro_batch:
        micro_batch = find_micro_batch(run_dir.parent, plan, processes)
    # Every process draws the same initial weights.
    torch.manual_seed(plan.seed)
    model = build_planned(plan.model)
    batching = plan_batching(plan.schedule.batch, processes.world, micro_batch, in_pairs=plan.recipe.mixup > 0)
    engine = build_engine(model, plan, batching, processes.device, processes.rank)
    progress = store.restore(engine)
    recorder.step = progress.step
    recorder.clock = Clock(processes.device, progress.train_seconds, progress.pause_seconds)
    loop = Loop(plan, engine, store, progress, flag, processes, recorder)
    if not loop.run():
        return PREEMPTED
    processes.barrier()
    return scoring.conclude(model, loop.progress) if processes.is_first else DONE


def _end_early(run_dir: Path, processes: Processes, recorder: Recorder, error: Exception) -> int:
    """Record why the attempt ends and return its exit code.

    A partner that died by itself is no failure of the run: it can go on from its last checkpoint. A partner that
    failed has said why, and that is the run's failure.
    """
    if not is_lost_partner(error):
        message = describe(error)
        logger.error("the run failed: %s", message, exc_info=None if isinstance(error, UserError) else error)
        if processes.is_first:
            recorder.event("failed", {}, message)
            recorder.state("failed", message)
        else:
            leave_word(run_dir, processes.rank, message)
        return FAILED
    logger.error("a partner process is lost: %s", error)
    if not processes.is_first:
        return LOST_PARTNER
    words = "; ".join(_await_words(run_dir, processes.world))
    if words:
        recorder.event("failed", {}, words)
        recorder.state("failed", words)
        return FAILED
    message = f"a process of the run died or stayed silent after step {recorder.step}"
    recorder.event("preempt", {}, message)
    recorder.state("preempted", message)
    return LOST_PARTNER


def _await_words(run_dir: Path, world: int) -> list[str]:
    deadline = time.monotonic() + WORD_PATIENCE_SECONDS
    while not (words := read_words(run_dir, world)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return words
