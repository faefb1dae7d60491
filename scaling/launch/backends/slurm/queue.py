"""What Slurm says about a study's jobs: one `squeue` for all of them, and its reasons in words.

No accounting is needed. A job is found by its name and told from others by its comment, which bears the nonce of the
batch it was submitted in; so jobs whose launcher died before it learned their number are found as well. Slurm forgets
an ended job after MinJobAge (300 s by default): then the run directory alone is the truth.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

QUERY_SECONDS = 60.0
"""A controller that does not answer for so long is unreachable."""

QUEUED_STATES = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT"})
RUNNING_STATES = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})

REASONS = {
    "None": "was queued a moment ago",
    "Priority": "waits behind jobs of higher priority",
    "Resources": "waits for free nodes",
    "JobArrayTaskLimit": "waits for its turn (launch.slurm.max_parallel)",
    "BeginTime": "was queued again and waits for its start time",
    "JobHeldUser": "held by its user; release it with scontrol release {job}",
    "JobHeldAdmin": "held by an administrator; ask them to release it",
    "JobHoldMaxRequeue": "held after too many requeues; look into its log, then scontrol release {job}",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "can never start: the job that it depends on failed",
    "PartitionConfig": "can never start: no node of the partition offers what the profile asks for",
    "BadConstraints": "can never start: no node has what constraint, gpus or memory of the profile ask for",
    "PartitionNodeLimit": "can never start: more nodes than the partition allows a job",
    "PartitionTimeLimit": "can never start: its time is above the limit of the partition",
    "PartitionDown": "waits: the partition is down",
    "PartitionInactive": "waits: the partition is inactive",
    "ReqNodeNotAvail": "waits: the nodes it needs are down or reserved",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for a licence",
}
"""Slurm's words for why a job waits, for a person; `{job}` is its number."""

STUCK = ("held", "can never start", "waits for a limit")
"""How the words begin for what only a person can change."""

REASON_STARTS = {
    "QOS": "waits for a limit of the quality of service",
    "Assoc": "waits for a limit of the account",
    "launch_failed_requeued_held": "held: its node could not start it; look at the node, then scontrol release {job}",
    "launch failed requeued held": "held: its node could not start it; look at the node, then scontrol release {job}",
    "Nodes required for job are DOWN": "waits: the nodes it needs are down or reserved",
}
"""The same for reasons that come in many forms, by how they begin."""

WHOLE_ARRAY = -1
"""Index of the one record of an array that was cancelled before any of its tasks started."""

_FORMAT = "%F|%K|%T|%N|%S|%k|%r"


class QueueUnknownError(RuntimeError):
    """Slurm did not answer; nothing is known, and nothing may be concluded from it."""


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """One task of a job array as Slurm shows it."""

    job: str
    """`17_0`: number of the array and of the task in it."""
    state: str
    """In Slurm's long form, `RUNNING`."""
    reason: str
    """Why it waits, in Slurm's own word; `None` where it does not."""
    nodes: str
    start: str
    """When it started, or is expected to; `N/A` where Slurm does not know."""

    @property
    def phase(self) -> Literal["queued", "running", "ended"]:
        if self.state in QUEUED_STATES:
            return "queued"
        return "running" if self.state in RUNNING_STATES else "ended"

    @property
    def is_stuck(self) -> bool:
        """Whether it waits for a person."""
        return self.phase == "queued" and self._words().startswith(STUCK)

    def explain(self) -> str:
        """Why it waits, in a sentence with Slurm's own word; with the expected start where Slurm has one."""
        if self.phase != "queued":
            return ""
        reason = self.reason.strip("()")
        expected = f", expected to start at {self.start}" if self.start not in ("N/A", "") else ""
        # The number of the whole array, so that tasks that wait alike say the same.
        return f"{self._words().format(job=self.job.partition('_')[0])} ({reason}){expected}"

    def _words(self) -> str:
        reason = self.reason.strip("()")
        starts = (text for start, text in REASON_STARTS.items() if reason.startswith(start))
        return REASONS.get(reason) or next(starts, "waits")


def job_name(study: str) -> str:
    """The name that all jobs of a study bear."""
    return f"scaling-{study}"


def job_comment(study: str, nonce: str) -> str:
    return f"scaling:{study}:{nonce}"


def query_study(study: str) -> dict[tuple[str, int], QueuedTask]:
    """All jobs of a study that Slurm still knows, by the nonce of their batch and their place in it.

    QueueUnknownError when Slurm does not answer: an empty answer means that there are none.
    """
    # Without the variable, long lists of array tasks are cut and end in "...".
    environment = os.environ | {"SLURM_BITSTR_LEN": "0"}
    command = ["squeue", "--noheader", "--me", "--states=all", f"--name={job_name(study)}", f"--format={_FORMAT}"]
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=QUERY_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise QueueUnknownError(f"squeue did not answer within {QUERY_SECONDS:g} s") from error
    if answer.returncode != 0:
        raise QueueUnknownError(answer.stderr.strip().splitlines()[-1] if answer.stderr.strip() else "squeue failed")
    return parse_queue(answer.stdout, study)


def parse_queue(text: str, study: str) -> dict[tuple[str, int], QueuedTask]:
    """What `squeue` printed in our format, a line for a record: a task, or a range of tasks that wait alike."""
    tasks = {}
    prefix = job_comment(study, "")
    for line in text.splitlines():
        fields = line.split("|", _FORMAT.count("|"))
        if len(fields) != _FORMAT.count("|") + 1 or not fields[5].startswith(prefix):
            continue
        array, indices, state, nodes, start, comment, reason = fields
        nonce = comment.removeprefix(prefix)
        for index in _expand(indices):
            job = array if index == WHOLE_ARRAY else f"{array}_{index}"
            tasks[nonce, index] = QueuedTask(job, state, reason, nodes, start)
    return tasks


def find_task(tasks: Mapping[tuple[str, int], QueuedTask], nonce: str, index: int) -> QueuedTask | None:
    """What Slurm knows of one run of a batch."""
    return tasks.get((nonce, index)) or tasks.get((nonce, WHOLE_ARRAY))


def _expand(text: str) -> Iterator[int]:
    """Indices of an array record: `7`, `0-3,9%2`, `0-8:4`, or `N/A` for the whole array."""
    if not text[:1].isdigit():
        yield WHOLE_ARRAY
        return
    for part in text.partition("%")[0].split(","):
        span, _, step = part.partition(":")
        low, _, high = span.partition("-")
        yield from range(int(low), int(high or low) + 1, int(step or 1))
