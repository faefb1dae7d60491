"""What a person sees while a study runs: one line per run as it ends, the running ones live, total and ETA.

On a terminal the running runs are redrawn in place; elsewhere (a log file, CI) only the lines of ended runs are
written. Everything goes to stderr: stdout belongs to the result.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scaling.errors import printable
from scaling.launch.study_dir import PlannedRun
from scaling.readable import short_time
from scaling.records.evaluation import current_evaluations
from scaling.records.state import RunState, Status
from scaling.records.study import merged_metrics

MAX_SHOWN = 20
"""Running runs that are drawn one by one."""


@dataclass(frozen=True, slots=True)
class Running:
    """A run that a process works on."""

    run_dir: Path
    attempt: int
    step: int
    steps: int
    seconds: float
    """Since this launcher first saw it running."""
    phase: str
    """What the run does beyond stepping: empty, or `starting`, `scoring NAME`."""
    where: str
    """Node and job, when the back end names one."""

    @property
    def share_left(self) -> float:
        """Of its steps."""
        return max(0.0, 1 - self.step / self.steps)

    @classmethod
    def load(cls, run: PlannedRun, seconds: float, where: str) -> Self:
        """As the run's state tells."""
        state = RunState.load(run.run_dir)
        steps = run.plan.schedule.steps
        is_there = state.status is Status.RUNNING
        step = state.step if is_there else run.standing.state.step
        phase = "" if is_there and state.step > state.resumed_step else "starting"
        if is_there and (state.scoring or run.standing.status is Status.DONE or state.step >= steps):
            phase = f"scoring {state.scoring}".rstrip()
        return cls(run.run_dir, state.attempt, step, steps, seconds, phase, where)


class ProgressView:
    """Use as a context manager; `update` as often as wanted, `ended` once per run."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._num_runs = self._num_ended = 0
        self._started = time.monotonic()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._eta: float | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def ended(self, run: PlannedRun, seconds: float) -> None:
        """The permanent line of a run that ended, with its scores or its error."""
        self._num_ended += 1
        position = f"[{self._num_ended:>{len(str(self._num_runs))}}/{self._num_runs}]"
        line = Text(f"{position} {run.plan.run_id:<42} ")
        if run.standing.is_finished:
            line.append("done  ", style="green").append(f"{short_time(seconds):>10}  {_scores(run)}")
            if run.standing.result is not None and run.standing.result.changes:
                line.append(f"  ({'; '.join(run.standing.result.changes)})", style="yellow")
        elif run.standing.status is Status.PRUNED:
            line.append(f"stopped by the search at step {run.standing.state.step:,}", style="yellow")
        else:
            line.append(run.standing.told, style="bold red").append(f"  {run.standing.reason}")
        if not self._console.is_terminal and self._eta is not None and self._num_ended < self._num_runs:
            line.append(f"  (about {short_time(self._eta)} left)")
        self._console.print(line, soft_wrap=True)

    def note(self, text: str) -> None:
        self._console.print(printable(text), soft_wrap=True)

    def update(self, running: Sequence[Running], num_ended: int, num_runs: int, eta_seconds: float | None) -> None:
        """The running runs, how many of all runs have ended, and the seconds left; None while that is not known."""
        self._num_ended, self._num_runs, self._eta = num_ended, num_runs, eta_seconds
        if not self._console.is_terminal:
            return
        table = Table.grid(padding=(0, 1))
        for run in running[:MAX_SHOWN]:
            bar = ProgressBar(total=run.steps, completed=run.step, width=24)
            steps = run.phase or f"step {run.step:,}/{run.steps:,}"
            table.add_row(f"  {run.run_dir.name}", bar, steps, short_time(run.seconds), run.where)
        if len(running) > MAX_SHOWN:
            table.add_row(f"  and {len(running) - MAX_SHOWN} more")
        left = "measuring" if eta_seconds is None else f"about {short_time(eta_seconds)} left"
        spent = short_time(time.monotonic() - self._started)
        total = Text(f"{self._num_ended} of {self._num_runs} runs ended, {spent} so far, {left}", style="bold")
        self._live.update(Group(table, total))


def _scores(run: PlannedRun) -> str:
    """The two numbers that say how the run went: upstream precision and the first few-shot accuracy."""
    result = run.standing.result
    if result is None:
        return ""
    metrics = merged_metrics(result, current_evaluations(run.run_dir, result, run.plan.evals))
    parts = []
    if "upstream/precision_at_1" in metrics:
        parts.append(f"upstream {100 * metrics['upstream/precision_at_1']:.1f} %")
    for name, value in metrics.items():
        if name.endswith("shot_top1"):
            parts.append(f"{name.removesuffix('_top1').replace('/', ' ')} {100 * value:.1f} %")
            break
    return "  ".join(parts)
