"""What Slurm said of a study's runs, kept in `scheduler.json` for `scaling.status`.

A launcher writes all of it with each query. A job writes what it learns as it ends, so that the words do not grow old
while no launcher watches: one query, of which it takes what waits and what runs.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.launch.backends.base import Look
from scaling.launch.backends.slurm.batch import load_batches, newest_batches
from scaling.launch.backends.slurm.queue import QueueUnknownError, find_task, query_study
from scaling.records.scheduler_word import RunWord, SchedulerWord

NAME = "Slurm"


def note_looks(study_dir: Path, looks: Mapping[Path, Look]) -> None:
    """All that a launcher has just been told; runs that ended are left to their own records."""
    moment = time.time()
    words = {
        run_dir.name: RunWord(phase=look.phase, reason=look.reason, where=look.where, unix_time=moment)
        for run_dir, look in looks.items()
        if look.phase != "ended"
    }
    SchedulerWord(scheduler=NAME, runs=words).save(study_dir)


def note_silence(study_dir: Path, words: str) -> None:
    """Slurm did not answer: what it said before stays, with its age."""
    last = SchedulerWord.load(study_dir) or SchedulerWord(scheduler=NAME)
    last.model_copy(update={"silent_since": last.silent_since or time.time(), "silence": words}).save(study_dir)


def note_end(run_dir: Path, job: str, requeued: str) -> None:
    """A job ends: what it knows of its own run, and one query for the others of the study.

    `requeued` says why its run was queued again, empty where it was not. What Slurm does not answer, or no longer
    knows, stays as it was said last.
    """
    study_dir = run_dir.parent
    newest = newest_batches(load_batches(study_dir))
    try:
        tasks = query_study(study_dir.name) if newest else {}
        silence: dict[str, Any] = {}
    except QueueUnknownError as error:
        tasks, silence = {}, {"silence": str(error), "silent_since": time.time()}
    last, moment = SchedulerWord.load(study_dir) or SchedulerWord(scheduler=NAME), time.time()
    words = dict(last.runs)
    for other, (batch, index) in newest.items():
        task = find_task(tasks, batch.nonce, index)
        if task is not None and task.phase != "ended":
            where = f"{task.nodes} {task.job}".strip()
            words[other.name] = RunWord(phase=task.phase, reason=task.explain(), where=where, unix_time=moment)
    words.pop(run_dir.name, None)
    if requeued:
        reason = f"was queued again: {requeued}"
        words[run_dir.name] = RunWord(phase="queued", reason=reason, where=job, unix_time=moment)
    SchedulerWord(scheduler=NAME, runs=words, **silence).save(study_dir)
