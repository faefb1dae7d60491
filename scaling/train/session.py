"""One attempt at one run, from its plan to its result; the only module that knows the order of things.

    1. meet the other processes, seed, build model and engine, restore the newest checkpoint
    2. train (`loop`), write the result
    3. score the kept weights (`scoring`)

Whatever ends it early is recorded before the processes part, with the reason of every process that failed.
"""

import logging
import time
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from scaling.errors import UserError
from scaling.models.cpu_arithmetic import SLOW_BF16, bf16_is_slow
from scaling.records.attempts.attempt import Attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.contract import Execution
from scaling.records.attempts.rank_failures import RankFailure, read_failures, report_failure, start_token, together
from scaling.records.files import content_digest
from scaling.records.ownership.lease import Lease
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.train.checkpoints.store import CheckpointStore
from scaling.train.loop import Loop
from scaling.train.processes.agreement import tell
from scaling.train.processes.failures import CODES, LostPartnerError, MachineError, classify, describe, is_foreseen
from scaling.train.processes.preemption import PreemptionFlag
from scaling.train.processes.process_group import Processes, is_lost_partner, join_processes
from scaling.train.reporting.clock import Clock
from scaling.train.reporting.recorder import Recorder
from scaling.train.scoring import Scoring, build_planned
from scaling.train.start import start_from
from scaling.train.step.engine import build_engine
from scaling.train.step.execution import settle_arithmetic
from scaling.train.step.micro_batch import find_micro_batch
from scaling.train.step.rules import Batching, plan_batching

logger = logging.getLogger(__name__)

WORD_PATIENCE_SECONDS = 2.0
"""How long the first process waits for a failing partner's own account of it."""


class _EndedEarly(Exception):
    """Carries the exit code of an attempt whose end is recorded through the ways out of what was opened: processes that
    did not end together must not wait for each other."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run_session(
    run_dir: Path,
    plan: RunPlan,
    flag: PreemptionFlag,
    execution: Execution,
    lease: Lease | None = None,
    attempt: Attempt | None = None,
) -> int:
    """Train, score and record; returns the exit code. The first process brings its lease and the attempt it claimed."""
    if execution.threads:
        torch.set_num_threads(execution.threads)
    settle_arithmetic(plan)  # Before CUDA starts, and also for an attempt that only scores.
    try:
        with ExitStack() as stack:
            processes = _meet(stack, plan, execution)
            recorder = Recorder(
                run_dir,
                plan,
                lease,
                attempt,
                device=processes.device,
                world=processes.world,
                is_first=processes.is_first,
            )
            stack.callback(recorder.close)
            if processes.device.type == "cpu" and plan.recipe.precision == "bf16" and bf16_is_slow():
                logger.warning("%s", SLOW_BF16)
            try:
                with closing(CheckpointStore(run_dir, plan, processes, recorder)) as store:
                    return _train_and_score(run_dir, plan, flag, processes, recorder, store)
            except Exception as error:
                raise _EndedEarly(_end_early(run_dir, processes, recorder, error)) from error
    except _EndedEarly as ended:
        return ended.code


def _meet(stack: ExitStack, plan: RunPlan, execution: Execution) -> Processes:
    """Join the run's processes; MachineError when they do not find each other or their device is not to be had."""
    digest = content_digest(plan.model_dump(mode="json"))
    run = f"{plan.run_id} of study {plan.study} (plan {digest[:12]})"
    try:
        return stack.enter_context(join_processes(execution, run=run))
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if classify(error) is Cause.OUT_OF_MEMORY:
            raise
        raise MachineError(f"the processes of the run could not be joined: {describe(error)}") from error


def _train_and_score(
    run_dir: Path,
    plan: RunPlan,
    flag: PreemptionFlag,
    processes: Processes,
    recorder: Recorder,
    store: CheckpointStore,
) -> int:
    scoring = Scoring(run_dir, plan, store.best_path, flag, processes, recorder)
    # A result may appear while processes start; all of them go by what the first one finds.
    result = RunResult.load(run_dir, plan) if processes.is_first else None
    if processes.any(result is not None):
        return scoring.complete(result)
    micro_batch = plan.engine.micro_batch
    if plan.engine.auto_micro_batch:
        micro_batch = find_micro_batch(run_dir.parent, plan, processes)
    # Every process draws the same initial weights.
    torch.manual_seed(plan.seed)
    model = build_planned(plan.model)
    if plan.start is not None:
        start_from(model, plan.start, run_dir.parent)
    if plan.engine.batching_counts != "no" and processes.world != plan.engine.num_devices:
        raise UserError(
            f"{plan.model.name} gives other numbers on {processes.world} processes than on the "
            f"{plan.engine.num_devices} that this run was planned for; start as many, or plan the study again with "
            f"launch.devices_per_run={processes.world}"
        )
    batching = plan_batching(plan.schedule.batch, processes.world, micro_batch, in_pairs=plan.recipe.mixup > 0)
    engine = build_engine(model, plan, batching, processes.device, processes.rank)
    progress = store.restore(engine)
    recorder.resume_at(progress.step)
    _compare_execution(plan, processes, recorder, batching, store.restored_attempt)
    recorder.clock = Clock(processes.device, progress.train_seconds, progress.pause_seconds)
    loop = Loop(plan, engine, store, progress, flag, processes, recorder)
    stays = loop.run()
    recorder.clock.settle()
    recorder.energy.settle(processes)
    if not stays:
        cause = requested_stop(run_dir) or Cause.PREEMPTED
        recorder.end(cause, flag.reason or "another process was asked to leave")
        return CODES[cause]
    processes.barrier()
    return scoring.conclude(model, loop.progress, store.check_best)


def _compare_execution(
    plan: RunPlan, processes: Processes, recorder: Recorder, batching: Batching, restored_attempt: int
) -> None:
    """Record what this attempt computes with and what of it differs from before; UserError, on all processes, where the
    run is to be exact."""
    engine = plan.engine
    division: dict[str, int | bool] = {
        "micro_batch": batching.micro_batch,
        "zero_stage": engine.zero_stage,
        "activation_checkpointing": engine.activation_checkpointing,
        "channels_last": engine.channels_last,
        "deterministic": engine.deterministic,
        "compile": engine.compile,
    }
    if engine.overlap_comm:
        division["overlap_comm"] = True
    changes = tell(recorder.computes_with(division, restored_attempt), processes)
    if changes and engine.reproduce == "exact":
        raise UserError(
            f"launch.reproduce is exact, and this run would be {'; '.join(changes)}; give it what it had before and "
            "launch it with --retry-failed, or plan it again with launch.reproduce: loose, which says so in the report"
        )


def _end_early(run_dir: Path, processes: Processes, recorder: Recorder, error: Exception) -> int:
    """Record why the attempt ends and return its exit code.

    A partner that died by itself is no failure of the run: it can resume from its last checkpoint. A partner that
    failed has said why, and that is the run's failure.
    """
    if is_lost_partner(error):
        logger.error("a partner process is lost: %s", error)
        error = LostPartnerError(f"a process of the run died or stayed silent after step {recorder.step}")
    own = RankFailure(processes.rank, classify(error), describe(error))
    if own.cause is not Cause.LOST:
        logger.error("the run ends: %s", own.message, exc_info=None if is_foreseen(error) else error)
    if not processes.is_first:
        if own.cause is not Cause.LOST:
            report_failure(run_dir, own)
        return CODES[own.cause]
    if own.cause is Cause.BUSY:
        return CODES[own.cause]  # Nothing may be written any more.
    words = _await_words(run_dir) if processes.world > 1 else []
    if own.cause is not Cause.LOST or not words:
        words = [own, *words]
    cause, message = together(words) if len(words) > 1 or words[0] is not own else (own.cause, own.message)
    recorder.end(cause, message)
    return CODES[cause]


def _await_words(run_dir: Path) -> list[RankFailure]:
    deadline = time.monotonic() + WORD_PATIENCE_SECONDS
    while not (words := read_failures(run_dir, start_token())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return words
