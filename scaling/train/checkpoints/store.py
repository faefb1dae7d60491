"""Checkpoints that a crash at any moment cannot spoil, written while training goes on.

    checkpoints/step_00000120_attempt2/            one of them (`checkpoint`)
    checkpoints/step_00000110_attempt2.damaged/    set aside: not what was written
    checkpoints/best/model.safetensors             weights with the best upstream validation so far

At a step edge the first process copies weights and optimiser state into memory of its host, and all go on. A thread
writes the copy under a temporary name, flushes it to the disk, takes checksums, marks and renames it; then the oldest
go. A kill in between costs that checkpoint and none before it. There is one copy, 12 bytes a parameter with Adam and 8
with SGD (fp32), so the next one waits until this one is written; the best weights of the same step share it.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.models.weights.files import save_weights
from scaling.records.files import TEMPORARY, sync_folder
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.train.checkpoints import portable_state
from scaling.train.checkpoints.checkpoint import (
    BEST,
    COMPLETE,
    STATE,
    Checkpoint,
    DamagedError,
    Progress,
    checkpoint_number,
)
from scaling.train.checkpoints.host_copy import HostCopy
from scaling.train.checkpoints.writer import BackgroundWriter
from scaling.train.processes.agreement import send, tell
from scaling.train.processes.failures import CheckpointError, MachineError
from scaling.train.processes.process_group import Processes
from scaling.train.reporting.recorder import Recorder
from scaling.train.step.engine import Engine

logger = logging.getLogger(__name__)

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a checkpoint."""

    step: int
    train_seconds: float
    pause_seconds: float
    """Both at its step."""
    stop_seconds: float
    """For how long training stood still for it."""
    problem: str = ""
    """Why the disk refused it; what was saved before is then as it was."""


class CheckpointStore:
    """The checkpoints of one run. Methods are called by all ranks together, but for those that say otherwise; only the
    first rank reads or writes."""

    def __init__(self, run_dir: Path, plan: RunPlan, processes: Processes, recorder: Recorder) -> None:
        self._run = RunDir(run_dir)
        self._identity = plan.identity
        self._keep = plan.intervals.keep_checkpoints
        self._processes = processes
        self._recorder = recorder
        self._copy = HostCopy(processes.device)
        self._weights: dict[str, torch.Tensor] = {}
        self._weights_step = -1
        """Which step's weights the copy holds."""
        self._best_sha256 = ""
        """Of the best weights as they were written; empty before there are any, and on other ranks than the first."""
        self._writer: BackgroundWriter[Written | None] = BackgroundWriter()
        self.restored_attempt = 0
        """Whose checkpoint `restore` loaded; 0 for none."""
        self.last_step = 0
        """Of the newest checkpoint known to be on the disk; 0 for none. Other ranks than the first know it by
        `agree_on_last_step`."""

    @property
    def best_path(self) -> Path:
        return self._run.best_weights

    def check_best(self) -> str:
        """SHA-256 of the best weights; MachineError when they are not what was written. The first rank may ask alone,
        once `outcomes` were awaited."""
        self._refuse_other_best(file_sha256(self.best_path) if self.best_path.is_file() else "nothing")
        return self._best_sha256

    def save(self, engine: Engine, progress: Progress) -> None:
        """Copy a checkpoint, to be written, marked and published while training goes on; `outcomes` tells the end."""
        began = time.perf_counter()
        if self._processes.is_first:
            self._recorder.guard()
            self._copy_weights(engine, progress.step)
        state = portable_state.optimizer_state(engine, self._processes)
        if not self._processes.is_first:
            for _ in state:
                pass
            return
        tensors = self._weights | self._copy.take(state)
        stopped = time.perf_counter() - began
        written = Written(progress.step, progress.train_seconds, progress.pause_seconds, stopped)
        self._writer.submit(lambda: self._write(tensors, progress, written))

    def save_best(self, engine: Engine, step: int, plans: Mapping[str, BaseModel]) -> None:
        """Copy the present weights, to be kept as the best so far; `plans` say what they are of, by name."""
        if not self._processes.is_first:
            return
        self._recorder.guard()
        self._copy_weights(engine, step)
        weights = {name.removeprefix(portable_state.MODEL): tensor for name, tensor in self._weights.items()}
        described = {name: plan.model_dump_json() for name, plan in plans.items()}
        metadata = {"step": str(step), "identity": self._identity, **described}
        self._writer.submit(lambda: self._write_best(weights, metadata))

    def outcomes(self, *, to_the_end: bool = False) -> Iterator[Written]:
        """What came of checkpoints since this was last asked, in order; nothing on other ranks than the first, which
        may ask alone. `to_the_end` waits for all of them.

        A checkpoint that the disk refuses is an outcome. CheckpointError for best weights that it refuses: going on
        would end with other weights than on a disk with room. What else a write meets is raised as it is.
        """
        asked = time.perf_counter()
        for written in self._writer.outcomes(to_the_end=to_the_end):
            if written is None:
                continue
            if not written.problem:
                self.last_step = written.step
            waited = time.perf_counter() - asked
            yield replace(written, stop_seconds=written.stop_seconds + waited)
            asked = time.perf_counter()

    def agree_on_last_step(self) -> None:
        """Make `last_step` what the first rank knows, on all of them."""
        self.last_step = tell(self.last_step, self._processes)

    def close(self) -> None:
        """Finish writing, and log what went wrong that nobody asked about, as the run ends for another reason. Any rank
        may do so alone."""
        try:
            for written in self.outcomes(to_the_end=True):
                if written.problem:
                    logger.warning("%s", written.problem)
        except Exception as error:
            logger.error("a checkpoint could not be written: %s", error)
        self._writer.close()

    def restore(self, engine: Engine) -> Progress:
        """Load the newest complete checkpoint; `Progress()` when there is none.

        The first process chooses it, holds it against its checksums and hands its content to the others. One that is
        marked complete and yet is not what was written is set aside as `NAME.damaged`, with a warning, and the one
        before it is taken. UserError, on all processes, for a checkpoint of another run or version.
        """
        chosen: Checkpoint | None = None
        refusal = ""
        if self._processes.is_first:
            for leftover in self._run.checkpoints.glob(f".*{PARTIAL}"):
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                chosen = self._newest_sound()
            except UserError as error:
                refusal = str(error)
        described = chosen.describe() if chosen is not None else None
        found, refusal = tell([described, refusal], self._processes)
        if refusal:
            raise UserError(refusal)
        if found is None:
            return Progress()
        tensors = self._hand_out(chosen, found["tensors"])
        portable_state.install(engine, {name: shape for name, shape, _ in found["tensors"]}, tensors)
        if chosen is not None:
            self._restore_best(chosen)
        self._processes.barrier()
        number = checkpoint_number(found["name"])
        self.restored_attempt, self.last_step = number or (0, 0)
        logger.info("continuing from %s", found["name"])
        return Progress(**found["progress"])

    def _copy_weights(self, engine: Engine, step: int) -> None:
        """Unless the copy holds those of this step already."""
        if self._weights_step != step:
            self._writer.wait()
            self._weights = self._copy.take(portable_state.weights(engine))
            self._weights_step = step

    def _write(self, tensors: dict[str, torch.Tensor], progress: Progress, written: Written) -> Written:
        try:
            self._publish(tensors, progress)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(self._partial(progress.step), ignore_errors=True)
            reason = str(error) or type(error).__name__
            problem = f"the checkpoint of step {progress.step} could not be written: {reason}"
            return replace(written, problem=problem)
        return written

    def _publish(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        """Write, mark and rename a checkpoint, then drop the oldest."""
        final, partial = self._final(progress.step), self._partial(progress.step)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        metadata = {"identity": self._identity, "progress": json.dumps(asdict(progress))}
        save_file(tensors, partial / STATE, metadata=metadata)
        _sync(partial / STATE)
        if progress.best_metrics is not None:
            _copy(self.best_path, partial / BEST)
        digests = {path.name: file_sha256(path) for path in sorted(partial.iterdir())}
        if BEST in digests:
            self._refuse_other_best(digests[BEST])
        (partial / COMPLETE).write_text(json.dumps(digests, indent=2) + "\n")
        _sync(partial / COMPLETE)
        sync_folder(partial)
        self._recorder.guard()
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync_folder(self._run.checkpoints)
        if not (final / COMPLETE).is_file():
            raise OSError(f"{final} was removed while it was written")
        # The one just written is the only one whose content is known for certain, so it is never among those that go.
        for path in [path for path in self._complete() if path != final][self._keep - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def _write_best(self, weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
        temporary = self.best_path.with_suffix(TEMPORARY)
        try:
            self.best_path.parent.mkdir(parents=True, exist_ok=True)
            save_weights(weights, temporary, metadata)
            _sync(temporary)
            digest = file_sha256(temporary)
            self._recorder.guard()
            temporary.replace(self.best_path)
            self._best_sha256 = digest
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointError(
                f"the best weights, of step {metadata['step']}, could not be written: {error}"
            ) from error

    def _refuse_other_best(self, found: str) -> None:
        """A checkpoint or a result that took up other weights would make them right for ever."""
        if found != self._best_sha256:
            raise MachineError(
                f"{self.best_path} is not what was written (sha256 {found[:12]} instead of {self._best_sha256[:12]}): "
                "its disk failed or somebody changed it; the run goes on from its last checkpoint, which has a copy"
            )

    def _newest_sound(self) -> Checkpoint | None:
        """The newest checkpoint that is what was written; those found damaged on the way are set aside."""
        last_damage = ""
        for path in self._complete():
            try:
                return Checkpoint.read(path, self._identity)
            except DamagedError as damage:
                aside = _free_name(path.with_name(f"{path.name}.damaged"))
                self._recorder.guard()
                path.rename(aside)
                last_damage = f"checkpoint {path.name} cannot be read ({damage}); it was set aside as {aside.name}"
                logger.warning("%s; falling back to the one before", last_damage)
        if last_damage:
            logger.warning("no sound checkpoint is left; the run begins again at step 0")
        return None

    def _hand_out(
        self, chosen: Checkpoint | None, described: list[tuple[str, list[int], str]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors of the chosen checkpoint, one at a time, on every process."""
        with ExitStack() as stack:
            file = stack.enter_context(safe_open(chosen.path / STATE, framework="pt")) if chosen is not None else None
            for name, shape, dtype in described:
                own = file.get_tensor(name) if file is not None else None
                yield name, send(own, shape, getattr(torch, dtype), self._processes)

    def _restore_best(self, checkpoint: Checkpoint) -> None:
        """Weights kept after this checkpoint belong to work that is lost."""
        digest = checkpoint.digests.get(BEST)
        self._best_sha256 = digest or ""
        if digest is None:
            self.best_path.unlink(missing_ok=True)
            return
        if not _holds(self.best_path, digest):
            _put_back(self.best_path, checkpoint.path / BEST)

    def _final(self, step: int) -> Path:
        return self._run.checkpoint(step, self._recorder.attempt.attempt)

    def _partial(self, step: int) -> Path:
        final = self._final(step)
        return final.with_name(f".{final.name}{PARTIAL}")

    def _complete(self) -> list[Path]:
        """Marked checkpoints, newest first: by attempt, then step. Other folders, such as copies that somebody made
        under other names, are none of them."""
        names = {
            path.parent: checkpoint_number(path.parent.name) for path in self._run.checkpoints.glob(f"*/{COMPLETE}")
        }
        numbered = [(number, path) for path, number in names.items() if number is not None]
        return [path for _, path in sorted(numbered, reverse=True)]


def _free_name(path: Path) -> Path:
    """`path`, or the first of `path2`, `path3`, … that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}{number}")
    return free


def recover_best(best_path: Path, sha256: str) -> bool:
    """Whether the kept weights of a trained run, of this digest, are there; where they are missing or are others, they
    are put back, with a warning, from a checkpoint's copy."""
    if _holds(best_path, sha256):
        return True
    for copy in sorted(best_path.parent.parent.glob(f"*/{BEST}")):
        if _holds(copy, sha256):
            _put_back(best_path, copy)
            logger.warning("%s was missing or damaged and is put back from %s", best_path, copy)
            return True
    return False


def _holds(path: Path, sha256: str) -> bool:
    """Whether a file is there, with this content."""
    return path.is_file() and file_sha256(path) == sha256


def _put_back(best_path: Path, copy: Path) -> None:
    best_path.parent.mkdir(exist_ok=True)
    temporary = best_path.with_suffix(TEMPORARY)
    _copy(copy, temporary)
    temporary.replace(best_path)


def _copy(source: Path, target: Path) -> None:
    """A copy on the disk."""
    shutil.copyfile(source, target)
    _sync(target)


def _sync(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
