"""The end of a run: write what training found, then score the kept weights by the planned evaluations.

Also the way back for a run that is trained already and of which further evaluations are asked. The first process alone
reads the weights and writes records; evaluations that can be shared are computed by all processes of the run together.
The result is written first and never again; each evaluation has a record of its own, written when it is done, so that
leaving on the way loses none.
"""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scaling.errors import UserError
from scaling.evals import runner as evals_runner
from scaling.evals.describe import describe_evaluation
from scaling.evals.runner import Alone, EvaluationContext, run_evaluation
from scaling.evals.settings import EVALUATIONS
from scaling.models.build import build_model
from scaling.models.networks.vision_model import VisionModel
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.changes import note_training
from scaling.records.attempts.contract import DONE
from scaling.records.evaluation import Evaluation, current_evaluations
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import EvalPlan, ModelPlan, RunPlan
from scaling.records.study import merged_metrics
from scaling.train.checkpoints.checkpoint import Progress, load_best_weights
from scaling.train.checkpoints.store import recover_best
from scaling.train.loop import early_stop_message
from scaling.train.processes.agreement import send_model, tell
from scaling.train.processes.failures import CODES
from scaling.train.processes.preemption import PreemptionFlag
from scaling.train.processes.process_group import Processes
from scaling.train.reporting.clock import Clock
from scaling.train.reporting.recorder import Recorder

logger = logging.getLogger(__name__)


class Scoring:
    """What is done with the kept weights of one run."""

    def __init__(
        self,
        run_dir: Path,
        plan: RunPlan,
        best_path: Path,
        flag: PreemptionFlag,
        processes: Processes,
        recorder: Recorder,
    ) -> None:
        self._run_dir, self._plan, self._best_path = run_dir, plan, best_path
        self._flag, self._processes, self._recorder = flag, processes, recorder

    def conclude(self, model: VisionModel, progress: Progress, check_best: Callable[[], str]) -> int:
        """Write the result of a training that has ended, then score its weights; returns the exit code. `check_best`
        is the SHA-256 of the kept weights, held against what was written."""
        if not self._processes.is_first:
            return self._score(model, None)
        weights_sha256 = check_best()
        best_step = load_best_weights(self._best_path, model)
        metrics = {**(progress.best_metrics or {}), **progress.training}
        is_early = self._recorder.step < self._plan.schedule.steps
        result = self._result(metrics, best_step, is_early, weights_sha256)
        self._recorder.guard()
        self._refuse_other_plan()
        result.save(self._run_dir)
        note_training(self._run_dir, self._recorder.attempt)
        return self._score(model, result)

    def complete(self, result: RunResult | None) -> int:
        """Compute the planned evaluations that a trained run has no current record of; returns the exit code. The first
        process brings the result."""
        model = build_planned(self._plan.model).to(self._processes.device)
        if result is not None:
            self._recorder.resume_at(result.steps)
            self._recorder.clock = Clock(self._processes.device, result.train_seconds, result.pause_seconds)
            self._recorder.guard()
            if not recover_best(self._best_path, result.weights_sha256):
                raise UserError(
                    f"{self._best_path} is missing or not the weights that the run kept (sha256 "
                    f"{result.weights_sha256[:12]} by its result), and no checkpoint of the run holds a copy; delete "
                    "the run's folder to train it again"
                )
            load_best_weights(self._best_path, model)
        return self._score(model, result)

    def _refuse_other_plan(self) -> None:
        """UserError when the plan on the disk is not the one that was obeyed: nobody could say what was trained."""
        if RunPlan.load(self._run_dir).identity != self._plan.identity:
            raise UserError(f"{RunDir(self._run_dir).plan} is another run's plan now; plan the study again")

    def _score(self, model: VisionModel, result: RunResult | None) -> int:
        """Each planned evaluation without a current record, recorded as soon as it is done; leaves between two of them
        when the run is asked to. What all processes compute together comes first, then the others leave."""
        plan = self._plan
        current = current_evaluations(self._run_dir, result, plan.evals) if result is not None else {}
        if self._recorder.has_trained:
            # The log's rows of what an earlier attempt scored are superseded with the steps that were trained again.
            for one in plan.evals:
                if one.by == "scoring" and one.name in current:
                    self._recorder.event("eval", current[one.name].metrics)
        missing = tell(
            [one.name for one in plan.evals if one.by == "scoring" and one.name not in current], self._processes
        )
        todo = [one for one in plan.evals if one.name in missing]
        shared = [one for one in todo if EVALUATIONS[one.kind].is_shared]
        if shared and self._processes.world > 1:
            send_model(model, self._processes)
        for evaluation in shared:
            if self._processes.any(self._flag.is_up):
                return self._leave()
            record = self._evaluate(model, evaluation, result, self._processes)
            if record is not None:
                current[evaluation.name] = record
        if result is None:
            return DONE
        for evaluation in todo:
            if evaluation not in shared:
                if self._flag.is_up:
                    return self._leave()
                record = self._evaluate(model, evaluation, result, Alone())
                assert record is not None
                current[evaluation.name] = record
        early = early_stop_message(plan) if result.stopped_early else ""
        self._recorder.event("done", merged_metrics(result, current), early)
        self._recorder.scoring("")
        self._recorder.end(Cause.DONE, early)
        return DONE

    def _leave(self) -> int:
        reason = self._flag.reason or "another process was asked to leave"
        logger.info("leaving before all evaluations are done: %s", reason)
        cause = requested_stop(self._run_dir) or Cause.PREEMPTED
        self._recorder.end(cause, reason)
        return CODES[cause]

    def _evaluate(
        self,
        model: VisionModel,
        evaluation: EvalPlan,
        result: RunResult | None,
        partners: evals_runner.Processes,
    ) -> Evaluation | None:
        """Compute and record; the record, on the first process."""
        plan, attempt = self._plan, self._recorder.attempt
        if result is not None:
            logger.info("scoring %s", evaluation.name)
            self._recorder.scoring(evaluation.name)
        where = EvaluationContext(
            self._processes.device,
            plan.recipe.precision,
            plan.model.image_size,
            self._processes.loader_threads,
            plan.input,
            partners,
            self._processes.decode_processes,
        )
        started = time.perf_counter()
        metrics = run_evaluation(model, evaluation, where)
        if result is None:
            return None
        record = Evaluation(
            run_id=plan.run_id,
            identity=plan.identity,
            **describe_evaluation(evaluation),
            weights_sha256=result.weights_sha256,
            metrics=_finite(metrics),
            device=self._recorder.device_name,
            num_devices=partners.world,
            precision=where.precision,
            threads=torch.get_num_threads(),
            hardware=attempt.hardware,
            packages=attempt.packages,
            version=attempt.version,
            git_commit=attempt.git_commit,
            git_dirty=attempt.git_dirty,
            seconds=time.perf_counter() - started,
        )
        self._recorder.guard()
        record.save(self._run_dir)
        self._recorder.event("eval", record.metrics)
        return record

    def _result(self, metrics: dict[str, float], best_step: int, is_early: bool, weights_sha256: str) -> RunResult:
        """What the run found and what it really used, which is less than planned when it stopped early."""
        plan, clock, world, attempt = self._plan, self._recorder.clock, self._processes.world, self._recorder.attempt
        clock.settle()
        examples = self._recorder.step * plan.schedule.batch
        train_seconds, pause_seconds = clock.train_seconds, clock.pause_seconds
        return RunResult(
            run_id=plan.run_id,
            identity=plan.identity,
            attempts=attempt.attempt,
            metrics=_finite(metrics),
            weights_sha256=weights_sha256,
            best_step=best_step,
            steps=self._recorder.step,
            stopped_early=is_early,
            examples_seen=examples,
            unique_examples=min(examples, plan.subset.num_samples),
            flops=plan.train_flops(examples),
            train_seconds=train_seconds,
            pause_seconds=pause_seconds,
            device_hours=(train_seconds + pause_seconds) * world / 3600,
            images_per_second=examples / train_seconds,
            device=self._recorder.device_name,
            num_devices=world,
            precision=plan.recipe.precision,
            threads=torch.get_num_threads(),
            changes=attempt.changes,
            hardware=attempt.hardware,
            packages=attempt.packages,
            git_commit=attempt.git_commit,
            git_dirty=attempt.git_dirty,
        )


def build_planned(model: ModelPlan) -> VisionModel:
    """The planned architecture, freshly initialised."""
    return build_model(
        model.name,
        num_classes=model.num_classes,
        image_size=model.image_size,
        head_bias=model.head_bias,
        drop_path=model.drop_path,
        options=model.options,
    )


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    """JSON has no NaN."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
