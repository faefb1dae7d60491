"""The end of a run: score the kept weights by the planned evaluations and write the result.

Also the way back for a run that is trained already and of which further evaluations are asked. Done by the first
process alone.
"""

import logging
import math
from pathlib import Path

import torch

from scaling.evals.runner import Circumstances, run_evaluation
from scaling.models.build import build_model
from scaling.models.vision_model import VisionModel
from scaling.records.exit_codes import DONE, PREEMPTED
from scaling.records.result import RunResult
from scaling.records.run_plan import ModelPlan, RunPlan
from scaling.train.checkpoint import Progress, load_weights
from scaling.train.environment import describe_hardware, describe_packages
from scaling.train.loop import early_stop_message
from scaling.train.preemption import PreemptionFlag
from scaling.train.process_group import Processes
from scaling.train.recorder import Recorder

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

    def conclude(self, model: VisionModel, progress: Progress) -> int:
        """Score, write the first result and declare the run done; returns the exit code."""
        best_step = load_weights(self._best_path, model)
        scores, digests = self._score(model, done={})
        if self._left_early(digests):
            return PREEMPTED
        metrics = {**(progress.best_metrics or {}), **progress.training, **scores}
        self._recorder.event("eval", scores)
        is_early = self._recorder.step < self._plan.schedule.steps
        self._result(metrics, digests, best_step, is_early).save(self._run_dir)
        self._recorder.event("done", metrics, early_stop_message(self._plan) if is_early else "")
        self._recorder.state("done")
        return DONE

    def complete(self, result: RunResult) -> int:
        """Add the planned evaluations that a result lacks; returns the exit code."""
        self._recorder.step = result.steps
        model = build_planned(self._plan.model).to(self._processes.device)
        load_weights(self._best_path, model)
        scores, digests = self._score(model, done=result.evals)
        if self._left_early({**result.evals, **digests}):
            return PREEMPTED
        self._recorder.event("eval", scores)
        added = {"metrics": {**result.metrics, **_finite(scores)}, "evals": {**result.evals, **digests}}
        result.model_copy(update=added).save(self._run_dir)
        self._recorder.state("done")
        return DONE

    def _score(self, model: VisionModel, done: dict[str, str]) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics of the planned evaluations that are not `done` (by digest), and the digests of those computed; stops
        between two of them when the run is asked to leave."""
        plan = self._plan
        where = Circumstances(
            self._processes.device, plan.recipe.precision, plan.model.image_size, plan.engine.loader_threads, plan.input
        )
        metrics: dict[str, float] = {}
        digests: dict[str, str] = {}
        for evaluation in plan.evals:
            if done.get(evaluation.name) != evaluation.digest() and not self._flag.is_up:
                logger.info("scoring %s", evaluation.name)
                metrics |= run_evaluation(model, evaluation, where)
                digests[evaluation.name] = evaluation.digest()
        return metrics, digests

    def _left_early(self, digests: dict[str, str]) -> bool:
        if all(digests.get(evaluation.name) == evaluation.digest() for evaluation in self._plan.evals):
            return False
        self._recorder.event("preempt", {}, self._flag.reason)
        self._recorder.state("preempted")
        logger.info("leaving before all evaluations are done: %s", self._flag.reason)
        return True

    def _result(self, metrics: dict[str, float], digests: dict[str, str], best_step: int, is_early: bool) -> RunResult:
        """What the run found and what it really used, which is less than planned when it stopped early."""
        plan, clock, world = self._plan, self._recorder.clock, self._processes.world
        clock.settle()
        examples = self._recorder.step * plan.schedule.batch
        return RunResult(
            run_id=plan.run_id,
            identity=plan.identity,
            attempts=self._recorder.attempt,
            metrics=_finite(metrics),
            evals=digests,
            best_step=best_step,
            steps=self._recorder.step,
            stopped_early=is_early,
            examples_seen=examples,
            unique_examples=min(examples, plan.subset.num_samples),
            flops=examples * plan.model.flops_train_per_image,
            train_seconds=clock.train_seconds,
            pause_seconds=clock.pause_seconds,
            device_hours=(clock.train_seconds + clock.pause_seconds) * world / 3600,
            images_per_second=examples / clock.train_seconds,
            device=self._recorder.device_name,
            num_devices=world,
            precision=plan.recipe.precision,
            threads=torch.get_num_threads(),
            hardware=describe_hardware(),
            packages=describe_packages(),
            git_commit=plan.harness.git_commit,
            git_dirty=plan.harness.git_dirty,
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
