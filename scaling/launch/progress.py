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

from scaling.launch.numbers import short_time
from scaling.records.result import RunResult
from scaling.records.state import RunState


@dataclass(frozen=True, slots=True)
class Running:
    run_dir: Path
    step: int
    steps: int
    seconds: float
    phase: str
    """What the run does beyond stepping: empty, or `starting`, `scoring`."""


class ProgressView:
    """Use as a context manager; `update` as often as wanted, `ended` once per run."""

    def __init__(self, num_runs: int, num_done: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._num_runs = num_runs
        self._num_ended = num_done
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

    def ended(self, run_id: str, state: RunState, result: RunResult | None, seconds: float) -> None:
        """The permanent line of a run that ended, with its scores or its error."""
        self._num_ended += 1
        position = f"[{self._num_ended:>{len(str(self._num_runs))}}/{self._num_runs}]"
        line = Text(f"{position} {run_id:<42} ")
        if state.status == "done" and result is not None:
            line.append("done  ", style="green").append(f"{short_time(seconds):>10}  {_scores(result)}")
        else:
            line.append("failed", style="bold red").append(f"  {state.error or 'its process died without a word'}")
        if not self._console.is_terminal and self._eta is not None:
            line.append(f"  (about {short_time(self._eta)} left)")
        self._console.print(line, soft_wrap=True)

    def note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def update(self, running: Sequence[Running], eta_seconds: float | None) -> None:
        self._eta = eta_seconds
        if not self._console.is_terminal:
            return
        table = Table.grid(padding=(0, 1))
        for run in running:
            bar = ProgressBar(total=run.steps, completed=run.step, width=24)
            steps = run.phase or f"step {run.step:,}/{run.steps:,}"
            table.add_row(f"  {run.run_dir.name}", bar, steps, short_time(run.seconds))
        left = "measuring" if eta_seconds is None else f"about {short_time(eta_seconds)} left"
        spent = short_time(time.monotonic() - self._started)
        total = Text(f"{self._num_ended} of {self._num_runs} runs ended, {spent} so far, {left}", style="bold")
        self._live.update(Group(table, total))


def _scores(result: RunResult) -> str:
    """The two numbers that say how the run went: upstream precision and the first few-shot accuracy."""
    parts = []
    if "upstream/precision_at_1" in result.metrics:
        parts.append(f"upstream {100 * result.metrics['upstream/precision_at_1']:.1f} %")
    for name, value in result.metrics.items():
        if name.endswith("shot_top1"):
            parts.append(f"{name.removesuffix('_top1').replace('/', ' ')} {100 * value:.1f} %")
            break
    return "  ".join(parts)
