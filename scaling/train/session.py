"""One attempt at one run, from its plan to its result; the only module that knows the order of things.

    1. meet the other processes, seed, build model and engine
    2. restore the newest checkpoint, or start at step 0
    3. step; at a step edge, in this order: log, validate and keep the best, save, leave if asked to
    4. score the kept weights (first process alone) and write the result

The order in 3 is what makes a resumed run repeat nothing and lose nothing: a checkpoint remembers the validation
of its own step. Everything random is a function of the plan's seed and the step, or restored from the checkpoint.
"""

import logging
import math
from dataclasses import replace
from pathlib import Path

import torch

from scaling.data.loader import EvalLoader, TrainLoader
from scaling.data.subset import select_subset
from scaling.evals.runner import Circumstances, open_source, run_evaluation
from scaling.models.build import build_model
from scaling.models.vision_model import VisionModel
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.train.batching import plan_batching
from scaling.train.checkpoint import CheckpointStore, load_weights
from scaling.train.clock import Clock
from scaling.train.engine import Engine, build_engine
from scaling.train.environment import describe_hardware, describe_packages
from scaling.train.exit_codes import DONE, PREEMPTED
from scaling.train.preemption import PreemptionFlag
from scaling.train.process_group import Processes, join_processes
from scaling.train.recorder import Recorder, device_name
from scaling.train.schedule import learning_rate_at
from scaling.train.validation import validate

logger = logging.getLogger(__name__)

VALIDATION_BATCH = 256


class DivergenceError(RuntimeError):
    """The loss is no longer a number."""


def run_session(run_dir: Path, plan: RunPlan, flag: PreemptionFlag) -> int:
    """Train, score and record; returns the exit code."""
    if plan.engine.threads:
        torch.set_num_threads(plan.engine.threads)
    with join_processes() as processes:
        recorder = Recorder(run_dir, plan, device=processes.device, world=processes.world, is_first=processes.is_first)
        try:
            result = RunResult.load(run_dir)
            if result is not None:
                return _score_again(run_dir, plan, result, processes, recorder)
            session = _Session(run_dir, plan, flag, processes, recorder)
            return session.finish() if session.train() else PREEMPTED
        except Exception as error:
            _record_failure(recorder, error)
            raise
        finally:
            recorder.close()


class _Session:
    def __init__(
        self, run_dir: Path, plan: RunPlan, flag: PreemptionFlag, processes: Processes, recorder: Recorder
    ) -> None:
        self._run_dir, self._plan, self._flag = run_dir, plan, flag
        self._processes, self._recorder = processes, recorder
        recorder.state("running", 0)
        # Every process draws the same initial weights; what differs by rank is drawn from the seeds set afterwards.
        torch.manual_seed(plan.seed)
        self._model = new_model(plan).to(processes.device)
        batching = plan_batching(plan.schedule.batch, processes.world, plan.engine.micro_batch)
        self._engine: Engine = build_engine(self._model, plan, batching, processes.device)
        torch.manual_seed(plan.seed * 100_003 + processes.rank + 1)
        self._store = CheckpointStore(run_dir, plan.identity, plan.intervals.keep_checkpoints, processes)
        self._progress = self._store.restore(self._engine)
        self._clock = Clock(self._progress.train_seconds, self._progress.pause_seconds)
        self._validation = EvalLoader(
            open_source(plan.val),
            batch=VALIDATION_BATCH,
            image_size=plan.model.image_size,
            transform="upstream",
            rank=processes.rank,
            world=processes.world,
            threads=plan.engine.loader_threads,
        )

    def train(self) -> bool:
        """Steps from the restored position to the end; False when pre-empted on the way."""
        plan, processes = self._plan, self._processes
        step = self._progress.step
        self._recorder.event("start", step, self._clock, {})
        logger.info("starting at step %d of %d on %s", step, plan.schedule.steps, processes.device)
        losses: list[torch.Tensor] = []
        batches = iter(self._loader(step))
        try:
            while step < plan.schedule.steps:
                with self._clock.pause():
                    batch = next(batches)
                step += 1
                loss, norm = self._engine.train_step(step, batch.images, batch.labels)
                losses.append(loss)
                if self._is_due(step, plan.intervals.log_steps):
                    self._log(step, losses, norm)
                    losses = []
                is_due_to_save = self._is_due(step, plan.intervals.checkpoint_steps)
                if self._is_due(step, plan.intervals.validate_steps):
                    self._validate(step)
                leaving = processes.any(self._flag.is_up)
                if is_due_to_save or leaving:
                    self._save(step)
                self._recorder.heartbeat(step)
                if leaving and step < plan.schedule.steps:
                    self._recorder.event("preempt", step, self._clock, {}, self._flag.reason)
                    self._recorder.state("preempted", step)
                    logger.info("leaving at step %d: %s", step, self._flag.reason)
                    return False
        finally:
            batches.close()
        return True

    def finish(self) -> int:
        """Score the kept weights and write the result; the first process alone."""
        self._processes.barrier()
        if not self._processes.is_first:
            return DONE
        plan, progress = self._plan, self._progress
        steps = plan.schedule.steps
        self._recorder.state("running", steps)
        with self._clock.pause():
            best_step = load_weights(self._store.best_path, self._model)
            scores, digests = score(self._model, plan, self._processes.device)
        metrics = {**(progress.best_metrics or {}), **progress.training, **scores}
        self._recorder.event("eval", steps, self._clock, scores)
        clock = self._clock
        examples = steps * plan.schedule.batch
        RunResult(
            run_id=plan.run_id,
            identity=plan.identity,
            attempts=self._recorder.attempt,
            metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
            evals=digests,
            best_step=best_step,
            steps=steps,
            examples_seen=examples,
            unique_examples=min(examples, plan.subset.num_samples),
            flops=examples * plan.model.flops_train_per_image,
            train_seconds=clock.train_seconds,
            pause_seconds=clock.pause_seconds,
            device_hours=(clock.train_seconds + clock.pause_seconds) * self._processes.world / 3600,
            images_per_second=examples / clock.train_seconds,
            device=device_name(self._processes.device),
            num_devices=self._processes.world,
            precision=plan.recipe.precision,
            threads=torch.get_num_threads(),
            hardware=describe_hardware(),
            packages=describe_packages(),
            git_commit=plan.harness.git_commit,
            git_dirty=plan.harness.git_dirty,
        ).save(self._run_dir)
        self._recorder.event("done", steps, clock, metrics)
        self._recorder.state("done", steps)
        return DONE

    def _loader(self, step: int) -> TrainLoader:
        plan = self._plan
        source = open_source(plan.train)
        subset = select_subset(source.manifest, plan.subset.fraction, plan.subset.seed)
        assert subset.digest == plan.subset.digest, "the subset rule changed without a new order version"
        return TrainLoader(
            source,
            subset,
            seed=plan.seed,
            batch=plan.schedule.batch,
            image_size=plan.model.image_size,
            augment=plan.recipe.augment,
            rank=self._processes.rank,
            world=self._processes.world,
            threads=plan.engine.loader_threads,
            start_position=step * plan.schedule.batch,
        )

    def _log(self, step: int, losses: list[torch.Tensor], norm: torch.Tensor | float | None) -> None:
        """One row: mean loss since the last row, over all ranks. The only place where a step waits for the device."""
        mean = self._processes.sum(torch.stack(losses).mean().double()) / self._processes.world
        rate = learning_rate_at(step, self._plan.schedule, self._plan.recipe)
        metrics = {"loss": mean.item(), "learning_rate": rate}
        if norm is not None:
            metrics["grad_norm"] = float(norm)
        metrics["images_per_second"] = step * self._plan.schedule.batch / self._clock.train_seconds
        self._progress = replace(self._progress, training=metrics)
        self._recorder.event("step", step, self._clock, metrics)
        logger.info("step %d loss %.4f", step, metrics["loss"])
        if not math.isfinite(metrics["loss"]):
            raise DivergenceError(
                f"the loss is {metrics['loss']} at step {step} with learning rate {rate:.3g}; the last good checkpoint "
                f"is of step {self._progress.step}; lower learning_rate, or clip lower"
            )

    def _validate(self, step: int) -> None:
        """Score the held-out split and keep the weights when they are the best so far (higher precision@1, then lower
        loss; earlier wins a tie)."""
        with self._clock.pause():
            metrics = validate(self._model, self._validation, self._plan, self._processes)
            best = self._progress.best_metrics
            if best is None or _rank_of(metrics) > _rank_of(best):
                self._progress = replace(self._progress, best_step=step, best_metrics=metrics)
                self._store.save_best(self._engine, step)
        self._recorder.event("eval", step, self._clock, metrics)

    def _save(self, step: int) -> None:
        clock = self._clock
        self._progress = replace(
            self._progress, step=step, train_seconds=clock.train_seconds, pause_seconds=clock.pause_seconds
        )
        with clock.pause():
            self._store.save(self._engine, self._progress)
        self._recorder.event("checkpoint", step, clock, {})

    def _is_due(self, step: int, interval: int) -> bool:
        return step % interval == 0 or step == self._plan.schedule.steps


def new_model(plan: RunPlan) -> VisionModel:
    """The planned architecture, freshly initialised."""
    return build_model(
        plan.model.name,
        num_classes=plan.model.num_classes,
        image_size=plan.model.image_size,
        head_bias=plan.model.head_bias,
        drop_path=plan.model.drop_path,
        options=plan.model.options,
    )


def score(
    model: VisionModel, plan: RunPlan, device: torch.device, have: dict[str, str] | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics of the planned evaluations whose digest is not in `have`, and the digests of those computed."""
    where = Circumstances(device, plan.recipe.precision, plan.model.image_size, plan.engine.loader_threads)
    metrics: dict[str, float] = {}
    digests: dict[str, str] = {}
    for evaluation in plan.evals:
        if (have or {}).get(evaluation.name) != evaluation.digest():
            logger.info("scoring %s", evaluation.name)
            metrics |= run_evaluation(model, evaluation, where)
            digests[evaluation.name] = evaluation.digest()
    return metrics, digests


def _score_again(run_dir: Path, plan: RunPlan, result: RunResult, processes: Processes, recorder: Recorder) -> int:
    """A run that is trained already: compute only the evaluations that its result lacks."""
    if not processes.is_first or all(result.evals.get(plan_.name) == plan_.digest() for plan_ in plan.evals):
        return DONE
    model = new_model(plan).to(processes.device)
    store = CheckpointStore(run_dir, plan.identity, plan.intervals.keep_checkpoints, processes)
    load_weights(store.best_path, model)
    clock = Clock(result.train_seconds, result.pause_seconds)
    with clock.pause():
        scores, digests = score(model, plan, processes.device, have=result.evals)
    recorder.event("eval", result.steps, clock, scores)
    result.model_copy(update={"metrics": {**result.metrics, **scores}, "evals": {**result.evals, **digests}}).save(
        run_dir
    )
    recorder.state("done", result.steps)
    return DONE


def _record_failure(recorder: Recorder, error: Exception) -> None:
    """Keep the error where status and analysis find it."""
    message = f"{type(error).__name__}: {error}"
    recorder.event("failed", recorder.last_step, recorder.last_clock, {}, message)
    recorder.state("failed", recorder.last_step, message)


def _rank_of(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["upstream/precision_at_1"], -metrics["upstream/loss"]
