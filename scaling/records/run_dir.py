"""The names of all files of a run and of a study: no other module spells one.

runs/<study>/study.yaml                the sweep as planned
runs/<study>/plan.json                 run ids of the current plan, in plan order
runs/<study>/jobs/NONCE.json           what was submitted to a scheduler, written before it was
runs/<study>/trained/<run_id>.json     what a run was trained with first; outlives its folder
runs/<study>/throughput.jsonl          how fast each model is, measured alone, a row a line
runs/<study>/scheduler.json            what the scheduler last said of each run, and when
runs/<study>/report/                   made by the analysis
runs/<study>/<run_id>/run.json         frozen plan
runs/<study>/<run_id>/attempts/N.json  who made attempt N and with what; creating the file claims the number
runs/<study>/<run_id>/events.jsonl     what happened, one row a line
runs/<study>/<run_id>/ends.jsonl       how each attempt ended; the only source of retry budgets
runs/<study>/<run_id>/state.json       the run's last word about itself, with its heartbeat
runs/<study>/<run_id>/result.json      what training found, written once
runs/<study>/<run_id>/evals/NAME.json  one evaluation of the kept weights
runs/<study>/<run_id>/lease            who may write
runs/<study>/<run_id>/stop             a request to stop for good (cancelled or pruned)
runs/<study>/<run_id>/job.json         the scheduler's job that this run belongs to
runs/<study>/<run_id>/failure.RANK     why a process other than the first failed
runs/<study>/<run_id>/checkpoints/     step-numbered, and best/model.safetensors
runs/<study>/<run_id>/log.txt          for people
"""

import re
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}")


def safe_name(name: str, what: str) -> str:
    """`name` if it can be one file name of ours; UserError otherwise, so that no record becomes a path elsewhere."""
    if not _SAFE_NAME.fullmatch(name):
        raise UserError(
            f"{what} {name[:80]!r} cannot be a file name; use at most 200 letters, digits and . _ + -, the first a "
            "letter or digit"
        )
    return name


@dataclass(frozen=True, slots=True)
class RunDir:
    """One run's folder; nothing here touches the disk."""

    path: Path

    @property
    def study(self) -> "StudyDir":
        return StudyDir(self.path.parent)

    @property
    def trained(self) -> Path:
        return self.study.path / "trained" / f"{self.path.name}.json"

    @property
    def plan(self) -> Path:
        return self.path / "run.json"

    @property
    def attempts(self) -> Path:
        return self.path / "attempts"

    def attempt(self, number: int) -> Path:
        return self.attempts / f"{number}.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def ends(self) -> Path:
        return self.path / "ends.jsonl"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def evals(self) -> Path:
        return self.path / "evals"

    def evaluation(self, name: str) -> Path:
        return self.evals / f"{safe_name(name, 'evaluation')}.json"

    @property
    def lease(self) -> Path:
        return self.path / "lease"

    @property
    def stop(self) -> Path:
        return self.path / "stop"

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    def failure(self, rank: int) -> Path:
        return self.path / f"failure.{rank}"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int, attempt: int) -> Path:
        """The attempt is part of the name, so that a process which lost its lease while it wrote harms no other."""
        return self.checkpoints / f"step_{step:08d}_attempt{attempt}"

    @property
    def best_weights(self) -> Path:
        """The weights with the best upstream validation so far."""
        return self.checkpoints / "best" / "model.safetensors"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"


@dataclass(frozen=True, slots=True)
class StudyDir:
    """One study's folder; nothing here touches the disk but `run_dirs`."""

    path: Path

    @property
    def sweep(self) -> Path:
        return self.path / "study.yaml"

    @property
    def order(self) -> Path:
        return self.path / "plan.json"

    @property
    def jobs(self) -> Path:
        return self.path / "jobs"

    def job(self, nonce: str) -> Path:
        return self.jobs / f"{safe_name(nonce, 'job')}.json"

    @property
    def scheduler(self) -> Path:
        return self.path / "scheduler.json"

    @property
    def throughput(self) -> Path:
        return self.path / "throughput.jsonl"

    @property
    def models(self) -> Path:
        return self.path / "models.json"

    @property
    def micro_batches(self) -> Path:
        return self.path / "micro_batches.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def run(self, run_id: str) -> RunDir:
        return RunDir(self.path / safe_name(run_id, "run"))

    def run_dirs(self) -> list[RunDir]:
        """Folders that hold a plan, by name."""
        return [RunDir(plan.parent) for plan in sorted(self.path.glob("*/run.json"))]
