"""The training loop: steps, and what happens at the edge between two of them.

At a step edge, in this order: log, validate and keep the best, save, leave if asked to. The order is what makes a
resumed run repeat nothing and lose nothing: a checkpoint remembers the validation of its own step. Between edges that
log, validate or save, nothing waits for the device. A checkpoint is copied at its edge and written during the steps
that follow; a run that leaves or ends waits until it is.
"""

import logging
import math
import resource
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

import torch

from scaling.data.read.loader import Batch
from scaling.data.read.to_device import on_device
from scaling.records.run_plan import RunPlan
from scaling.train.averages import Means, Tally, validate
from scaling.train.checkpoints.checkpoint import Progress
from scaling.train.checkpoints.store import CheckpointStore
from scaling.train.corruption import CorruptTally
from scaling.train.loaders import train_loader, validation_loader
from scaling.train.processes.agreement import tell
from scaling.train.processes.decoding import describe_decoders, starvation
from scaling.train.processes.failures import CheckpointError, DivergenceError
from scaling.train.processes.preemption import PreemptionFlag
from scaling.train.processes.process_group import NO_VOTE, Processes
from scaling.train.reporting.hardware import LEAST_LIKELY_MFU, peak_flops_per_second
from scaling.train.reporting.recorder import Recorder
from scaling.train.step.engine import Engine
from scaling.train.step.rules import learning_rate_at

logger = logging.getLogger(__name__)


class Loop:
    """Takes a run from `progress` to its last step."""

    def __init__(
        self,
        plan: RunPlan,
        engine: Engine,
        store: CheckpointStore,
        progress: Progress,
        flag: PreemptionFlag,
        processes: Processes,
        recorder: Recorder,
    ) -> None:
        self._plan, self._engine, self._store = plan, engine, store
        self._flag, self._processes, self._recorder = flag, processes, recorder
        self.progress = progress
        self._tally = Tally(processes.device, skip_non_finite=plan.engine.non_finite == "skip")
        if progress.tally:
            self._tally.restore(progress.tally, processes)
        self._corrupt = CorruptTally(plan.engine.max_corrupt, progress.corrupt, processes)
        self._row_train_seconds, self._row_pause_seconds = progress.train_seconds, progress.pause_seconds
        self._has_warned_of_mfu = self._has_warned_of_waiting = False
        self._first_step = progress.step
        self._vote = NO_VOTE
        self._row_step = progress.step
        self._data_wait_seconds = 0.0
        self._validation = validation_loader(plan, processes)

    def run(self) -> bool:
        """Steps to the end, or until patience is out; False when asked to leave on the way, with a checkpoint saved."""
        first, last = self.progress.step, self._plan.schedule.steps
        self._recorder.event("start", {})
        if self._is_out_of_patience():
            return True
        device = self._processes.device
        decoders = describe_decoders(self._processes.loader_threads, self._processes.num_decode_processes)
        logger.info("starting at step %d of %d on %s, images decoded by %s", first, last, device, decoders)
        with closing(self.batches_after(first)) as batches:
            for step in range(first + 1, last + 1):
                if self.advance(step, batches):
                    self._tell_saved(to_the_end=True, must=True)
                    return False
                if self._is_out_of_patience():
                    logger.info("stopping at step %d: %s", step, early_stop_message(self._plan))
                    break
        self._tell_saved(to_the_end=True)
        return True

    def batches_after(self, step: int) -> Generator[Batch, None, None]:
        """This process's share of the batches that follow `step`, for ever, on its device. Closing it ends the loader's
        threads."""
        loader = train_loader(self._plan, self._processes, step=step, known_corrupt=self._corrupt.places)
        return on_device(loader, self._processes.device)

    def advance(self, step: int, batches: Iterator[Batch]) -> bool:
        """Step number `step` on the next of `batches`, and what is due after it; True when the run leaves here."""
        vote = self._processes.begin_any(self._flag.is_up)
        waiting = time.perf_counter()
        batch = next(batches)
        self._data_wait_seconds += time.perf_counter() - waiting
        self._corrupt.places.update(batch.corrupt)
        with self._recorder.clock.step():
            loss, norm = self._engine.train_step(step, batch.images, batch.labels)
            self._tally.add(step, loss, norm)
        self._recorder.step = step
        self._vote = vote
        return self._edge(step)

    def _edge(self, step: int) -> bool:
        """What is due after a step; True when the run leaves here."""
        intervals = self._plan.intervals
        self._tell_saved()
        if self._is_due(step, intervals.log_steps):
            self._log(step)
        if self._is_due(step, intervals.validate_steps):
            self._validate(step)
        # All processes leave at the same edge; of several, at the one after the step in which one was asked.
        is_leaving = self._vote.is_up(self._flag.is_up)
        is_last = step == self._plan.schedule.steps or self._is_out_of_patience()
        if is_leaving or is_last or self._is_due(step, intervals.checkpoint_steps):
            self._save(step)
        if not is_leaving or is_last:
            return False
        reason = self._flag.reason or "another process was asked to leave"
        logger.info("leaving at step %d: %s", step, reason)
        return True

    def _log(self, step: int) -> None:
        """One row: means since the last one, and what the machine did."""
        means = self._checked_means(step)
        if means is None:
            return
        self._count_skipped(means, step)
        clock = self._recorder.clock
        clock.settle()
        metrics = {
            "loss": means.loss,
            "learning_rate": learning_rate_at(step, self._plan.schedule, self._plan.recipe),
            "grad_norm": means.grad_norm,
            "data_wait_seconds": self._data_wait_seconds,
            "memory_bytes": _peak_memory_bytes(self._processes.device),
        }
        seconds = clock.train_seconds - self._row_train_seconds
        self._warn_of_waiting(step, seconds)
        if seconds > 0:
            rate = (step - self._row_step) * self._plan.schedule.batch / seconds
            metrics["images_per_second"] = rate
            metrics |= self._utilisation(step, rate)
        if self._plan.engine.non_finite == "skip":
            metrics["skipped_steps"] = self.progress.skipped_steps
        if self._corrupt.max_corrupt:
            metrics["num_corrupt"] = len(self._corrupt.agree())
        self._tally.reset()
        self._row_step, self._row_train_seconds, self._data_wait_seconds = step, clock.train_seconds, 0.0
        self._row_pause_seconds = clock.pause_seconds
        self.progress = replace(self.progress, training=metrics)
        self._recorder.event("step", metrics)
        logger.info("step %d loss %.4f", step, means.loss)

    def _warn_of_waiting(self, step: int, step_seconds: float) -> None:
        """Once, after the first row of the attempt, which waits for the loader to begin."""
        if self._has_warned_of_waiting or self._row_step == self._first_step:
            return
        processes = self._processes
        num_images = (step - self._row_step) * self._plan.schedule.batch // processes.world
        told = starvation(
            self._data_wait_seconds,
            step_seconds,
            num_images,
            processes.loader_threads,
            processes.num_decode_processes,
            processes.cores,
        )
        if told:
            self._has_warned_of_waiting = True
            logger.warning("%s", told)

    def _utilisation(self, step: int, images_per_second: float) -> dict[str, float]:
        """Model FLOPs utilisation of the steps since the last row, `mfu`, and of all the time since then with waiting,
        validation and saving, `mfu_end_to_end`; nothing for a device whose peak is not known."""
        clock, plan = self._recorder.clock, self._plan
        peak = peak_flops_per_second(self._recorder.device_name, plan.recipe.precision)
        if peak is None:
            return {}
        flops, peak = plan.model.flops_train_per_image, peak * self._processes.world
        pauses = clock.pause_seconds - self._row_pause_seconds
        seconds = clock.train_seconds - self._row_train_seconds + max(0.0, pauses)
        examples = (step - self._row_step) * plan.schedule.batch
        mfu = images_per_second * flops / peak
        if mfu < LEAST_LIKELY_MFU and not self._has_warned_of_mfu:
            self._has_warned_of_mfu = True
            logger.warning(
                "bf16 reaches %.1f %% of the peak of %s, which is implausibly low: see that nothing else uses the "
                "device and that micro_batch is large enough for it",
                100 * mfu,
                self._recorder.device_name,
            )
        return {"mfu": mfu, "mfu_end_to_end": examples * flops / (peak * seconds)}

    def _validate(self, step: int) -> None:
        """Score the held-out split and keep the weights when they are the best so far (higher precision@1, then lower
        loss; earlier wins a tie)."""
        self._checked_means(step)
        metrics = validate(self._engine.model, self._validation, self._plan, self._processes)
        best = self.progress.best_metrics
        if best is None or _rank_of(metrics) > _rank_of(best):
            self._store.save_best(self._engine, step, {"model": self._plan.model, "input": self._plan.input})
            self.progress = replace(self.progress, best_step=step, best_metrics=metrics, stale_validations=0)
        else:
            self.progress = replace(self.progress, stale_validations=self.progress.stale_validations + 1)
        self._recorder.event("eval", metrics)

    def _save(self, step: int) -> None:
        """Copy a checkpoint, which is written while training goes on."""
        self._checked_means(step)
        clock = self._recorder.clock
        clock.settle()
        self.progress = replace(
            self.progress,
            step=step,
            train_seconds=clock.train_seconds,
            pause_seconds=clock.pause_seconds,
            corrupt=self._corrupt.agree(),
            tally=self._tally.collect(self._processes),
        )
        self._store.save(self._engine, self.progress)

    def _tell_saved(self, *, to_the_end: bool = False, must: bool = False) -> None:
        """Record the checkpoints that have been written, after waiting for all of them when asked `to_the_end`. One
        that cannot be written costs a warning and not the run, unless the run leaves here and `must` have it; then all
        processes ask together."""
        problem = ""
        try:
            for written in self._store.outcomes(to_the_end=to_the_end):
                problem = written.problem
                if not problem:
                    self._recorder.checkpoint(
                        written.step, written.train_seconds, written.pause_seconds, written.stop_seconds
                    )
                elif not must:
                    logger.warning("%s; %s; training continues", problem, self._last_checkpoint())
            if must:
                self._store.agree_on_last_step()
                if problem := tell(problem, self._processes):
                    raise CheckpointError(problem)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; {self._last_checkpoint()}; make room and start the run again (--retry-failed)"
            ) from error

    def _count_skipped(self, means: Means, step: int) -> None:
        """Tell of the steps since the last row that were left out because their gradient was not finite."""
        if means.num_skipped == 0:
            return
        self.progress = replace(self.progress, skipped_steps=self.progress.skipped_steps + means.num_skipped)
        self._store.agree_on_last_step()
        logger.warning(
            "%d of the steps %d to %d were skipped, last step %d (learning rate %.3g): their gradient was not finite; "
            "%s",
            means.num_skipped,
            step - means.num_steps + 1,
            step,
            means.non_finite_step,
            learning_rate_at(means.non_finite_step, self._plan.schedule, self._plan.recipe),
            self._last_checkpoint(),
        )

    def _is_out_of_patience(self) -> bool:
        patience = self._plan.schedule.patience
        return patience is not None and self.progress.stale_validations >= patience

    def _checked_means(self, step: int) -> Means | None:
        """Means since the last row; DivergenceError when they are not numbers, so that such weights are never kept."""
        means = self._tally.means(self._processes)
        if means is None or (math.isfinite(means.loss) and math.isfinite(means.grad_norm)):
            return means
        rate = learning_rate_at(means.non_finite_step or step, self._plan.schedule, self._plan.recipe)
        steps = f"steps {step - means.num_steps + 1} to {step}"
        what = f"mean loss {means.loss} and gradient norm {means.grad_norm} in {steps}"
        if means.non_finite_step:
            which = "last" if self._plan.engine.non_finite == "skip" else "first"
            what = f"{what}, {which} at step {means.non_finite_step}"
        clip = self._plan.recipe.clip
        self._tell_saved(to_the_end=True)
        self._store.agree_on_last_step()
        raise DivergenceError(
            f"{what}, where the learning rate is {rate:.3g}; {self._last_checkpoint()}; lower learning_rate, or "
            f"{f'clip below {clip:g}' if clip else 'set clip'}"
        )

    def _last_checkpoint(self) -> str:
        step = self._store.last_step
        return f"the last good checkpoint is of step {step}" if step else "there is no checkpoint yet"

    def _is_due(self, step: int, interval: int) -> bool:
        return step % interval == 0 or step == self._plan.schedule.steps


def early_stop_message(plan: RunPlan) -> str:
    """Why a run ended before its last planned step."""
    return f"no better upstream validation in the last {plan.schedule.patience} (patience)"


def _rank_of(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["upstream/precision_at_1"], -metrics["upstream/loss"]


def _peak_memory_bytes(device: torch.device) -> float:
    """The most that tensors took on a GPU so far; on a CPU the most that the process took."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
