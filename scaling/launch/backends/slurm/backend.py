"""The Slurm back end: a study is one job array for each resource shape; implements `Backend`.

It only submits, adopts, looks and cancels. Queueing a job again, budgets and hung runs are looked after inside the
allocation (`slurm/job.py`), so the launcher may leave at any time, and the next one, on any login node, finds
everything again: from the batches in `study/jobs` and from one query of Slurm.
"""

import fcntl
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scaling.errors import UserError
from scaling.launch.backends.base import Handle, Look, Resources
from scaling.launch.backends.slurm.batch import SUBMIT_SECONDS, ArrayJob, load_batches, mark_runs, newest_batches
from scaling.launch.backends.slurm.cluster import max_array_tasks, require_slurm, test_shape
from scaling.launch.backends.slurm.look import Looker
from scaling.launch.backends.slurm.profile import Profile, load_profile
from scaling.launch.backends.slurm.queue import REASONS, QueuedTask, QueueUnknownError, find_task, query_study
from scaling.launch.backends.slurm.script import submit_array
from scaling.launch.backends.slurm.shape import Shape, base_shape, group_by_shape
from scaling.launch.backends.slurm.words import note_looks, note_silence
from scaling.records.attempts.causes import Cause
from scaling.records.ownership.stop_request import StopCause, clear_stop, request_stop
from scaling.records.run_dir import RunDir, StudyDir
from scaling.spec.launch_spec import LaunchSpec, SlurmSection

FIRST_WORD_SECONDS = 5.0
"""How long a launcher that leaves right after submitting waits for Slurm to look at its jobs."""


class SlurmBackend:
    """Runs as tasks of job arrays."""

    settings = SlurmSection
    scheduler = "Slurm"

    def __init__(self, launch: LaunchSpec, need: Resources) -> None:
        self._launch, self._section = launch, launch.slurm
        self._profile = load_profile(Path(self._section.profile)) if self._section.profile else Profile()
        self._shape = base_shape(launch, self._profile)
        self._looker = Looker(self._section.hung_after)
        self._submitted: tuple[Path, float] | None = None
        """The study that runs were submitted of last, and when."""
        self.poll_seconds = self._section.poll

    def check(self, need: Resources) -> None:
        """UserError, in Slurm's words, when it would not take such a job; `need` is what `launch` says, over which the
        shape of the profile and of `launch.slurm` is laid."""
        require_slurm()
        test_shape(self._shape, self._profile)

    def submit(self, run_dirs: Sequence[Path], cap: int | None) -> list[Handle]:
        """One array for each resource shape, or several where Slurm's MaxArraySize is smaller.

        `cap` bounds each shape: the arrays of one shape follow each other.
        """
        require_slurm()
        if not run_dirs:
            return []
        study_dir = run_dirs[0].parent
        caps = [number for number in (cap, self._section.max_parallel) if number is not None]
        with _one_at_a_time(study_dir):
            handles = {handle.run_dir: handle for handle in self.adopt(study_dir)}
            missing = [run_dir for run_dir in run_dirs if run_dir not in handles]
            for shape, group in group_by_shape(missing, self._launch, self._profile).items():
                for handle in self._submit_shape(study_dir, group, shape, min(caps, default=None)):
                    handles[handle.run_dir] = handle
        if missing:
            self._submitted = (study_dir, time.monotonic())
            self.poll(study_dir)
        return [handles[run_dir] for run_dir in run_dirs]

    def adopt(self, study_dir: Path) -> list[Handle]:
        """Runs that Slurm has, or may have: where it does not answer, all that were ever submitted."""
        batches = load_batches(study_dir)
        try:
            tasks = query_study(study_dir.name)
        except QueueUnknownError:
            tasks = None
        batches = [_with_number(batch, study_dir, tasks or {}) for batch in batches]
        handles = []
        for run_dir, (batch, index) in newest_batches(batches).items():
            task = find_task(tasks or {}, batch.nonce, index)
            is_alive = task is not None and task.phase != "ended"
            if is_alive or batch.may_be_on_its_way or (tasks is None and not batch.refused):
                job = task.job if task is not None else f"{batch.job_id}_{index}" if batch.job_id else None
                handles.append(Handle(run_dir, "slurm", batch.nonce, index, job))
        return handles

    def poll(self, study_dir: Path) -> dict[Path, Look]:
        """One query for the study; every run that was ever submitted has an answer."""
        batches = load_batches(study_dir)
        try:
            tasks = query_study(study_dir.name)
        except QueueUnknownError as error:
            note_silence(study_dir, str(error))
            unknown = Look("unknown", reason=f"Slurm does not answer ({error}); asked again", is_stuck=True)
            return dict.fromkeys(newest_batches(batches), unknown)
        batches = [_with_number(batch, study_dir, tasks) for batch in batches]
        known = {nonce for nonce, _ in tasks}
        newest = newest_batches(batches)
        looks = {
            run_dir: self._looker.look(run_dir, batch, find_task(tasks, batch.nonce, index), batch.nonce in known)
            for run_dir, (batch, index) in newest.items()
        }
        note_looks(study_dir, {run_dir: look for run_dir, look in looks.items() if not newest[run_dir][0].refused})
        return looks

    def cancel(self, run_dirs: Sequence[Path], cause: StopCause = Cause.CANCELLED) -> None:
        """Jobs that wait are taken out of the queue; those that run are asked to save, for which they may take as long
        as they need, and see by their marker that they must not come back."""
        for run_dir in run_dirs:
            request_stop(run_dir, cause)
            RunDir(run_dir).job.unlink(missing_ok=True)
        for study_dir in {run_dir.parent for run_dir in run_dirs}:
            looks = self.poll(study_dir)
            found = [looks[run_dir] for run_dir in run_dirs if run_dir in looks]
            unknown = [look.reason for look in found if look.phase == "unknown"]
            if unknown:
                raise UserError(
                    f"{study_dir.name}: {unknown[0]}, so its jobs could not be cancelled; the runs are marked and will "
                    "not be queued again, cancel once more when Slurm answers"
                )
            # Never `scancel --state=PENDING 17_3`: of an array that waits it takes out all tasks (Slurm 22.05).
            for phase, options in (("queued", []), ("running", ["--signal=USR1"])):
                jobs = [look.where.split()[-1] for look in found if look.phase == phase]
                if jobs:
                    subprocess.run(["scancel", *options, *jobs], capture_output=True, check=False)

    def close(self, *, detach: bool) -> None:
        """Jobs of a scheduler keep running without the launcher, detached or not.

        Slurm needs a moment to say why a job waits: who leaves right after submitting stays for that word, which is
        then there for `scaling.status`.
        """
        if not detach or self._submitted is None:
            return
        study_dir, moment = self._submitted
        while time.monotonic() < moment + FIRST_WORD_SECONDS:
            time.sleep(0.3)
            if not any(look.reason.startswith(REASONS["None"]) for look in self.poll(study_dir).values()):
                return

    def _submit_shape(
        self, study_dir: Path, run_dirs: Sequence[Path], shape: Shape, cap: int | None
    ) -> Iterator[Handle]:
        size, after = max_array_tasks(), ""
        for start in range(0, len(run_dirs), size):
            batch = ArrayJob(
                nonce=uuid.uuid4().hex[:12],
                study=study_dir.name,
                runs=tuple(str(run_dir.absolute()) for run_dir in run_dirs[start : start + size]),
                retries=self._launch.retries,
                execution=self._launch.execution(),
                seconds=60.0 * shape.minutes,
                save_before=self._profile.save_before,
                hung_after=self._section.hung_after,
                unix_time=time.time(),
            )
            for name in batch.runs:
                clear_stop(Path(name))
            path = batch.save(study_dir)
            mark_runs(batch)
            try:
                after = submit_array(batch, path, shape, self._profile, cap, after if cap else "")
            except UserError as error:
                batch.model_copy(update={"refused": str(error)}).save(study_dir)
                raise
            batch.model_copy(update={"job_id": after}).save(study_dir)
            for index, run_dir in enumerate(run_dirs[start : start + size]):
                yield Handle(run_dir, "slurm", batch.nonce, index, f"{after}_{index}")


def _with_number(batch: ArrayJob, study_dir: Path, tasks: dict[tuple[str, int], QueuedTask]) -> ArrayJob:
    """A batch whose launcher died before it could note Slurm's number, with the number."""
    if batch.job_id is not None or batch.refused:
        return batch
    numbers = {task.job.partition("_")[0] for (nonce, _), task in tasks.items() if nonce == batch.nonce}
    if not numbers:
        return batch
    found = batch.model_copy(update={"job_id": min(numbers)})
    found.save(study_dir)
    return found


@contextmanager
def _one_at_a_time(study_dir: Path) -> Iterator[None]:
    """Of launchers that submit runs of one study at the same moment, the second waits and adopts what the first did.

    By flock, which is a help on one host and on file systems that share it; elsewhere `job.json` fences: the tasks of a
    batch that is not its run's last one leave it alone.
    """
    jobs = StudyDir(study_dir).jobs
    jobs.mkdir(parents=True, exist_ok=True)
    with (jobs / ".lock").open("a") as stream:
        deadline = time.monotonic() + SUBMIT_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"{jobs}: another launcher has been submitting runs of this study for {SUBMIT_SECONDS:g} s; "
                        "wait for it, or end it"
                    ) from None
                time.sleep(0.1)
        yield
