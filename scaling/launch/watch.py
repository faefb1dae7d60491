"""The loop that takes a study from its plan to its results on any backend.

It starts runs while there is room, restarts those whose process died without a word (a run that reported an
error is not retried: the same inputs would fail again), and reads all it shows from the run directories.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from scaling.launch.backends.base import StartingBackend
from scaling.launch.forecast import RateBook, remaining_seconds, train_flops
from scaling.launch.progress import ProgressView, Running
from scaling.launch.study_dir import PlannedRun
from scaling.records.ends import settle_end
from scaling.records.exit_codes import BAD_INPUT, BUSY, DONE, FAILED
from scaling.records.result import RunResult
from scaling.records.state import RunState, Status

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2

TELLING_SHARE = 0.1
"""A run tells its model's rate from here on; before, its start weighs too much."""


class Watch:
    """One session of a launcher over one study."""

    def __init__(self, backend: StartingBackend, runs: Sequence[PlannedRun], retries: int) -> None:
        self._backend = backend
        self._pending = deque(run for run in runs if run.standing in ("pending", "resume", "evaluate"))
        self._all = runs
        self._retries_left = {run.run_dir: retries for run in self._pending}
        self._running: dict[Path, tuple[PlannedRun, float]] = {}
        self._rates = RateBook()
        for run in runs:
            self._learn_rate(run)

    def run(self) -> None:
        """Until every run ended; Ctrl-C lets runs save a checkpoint first and is passed on."""
        num_before = sum(run.standing in ("done", "failed", "running") for run in self._all)
        with ProgressView(len(self._all), num_before) as view:
            try:
                while self._pending or self._running:
                    while self._pending and self._backend.has_room():
                        self._start(self._pending.popleft())
                    for ended in self._backend.poll():
                        self._finish(ended.run_dir, ended.exit_code, view)
                    view.update(*self._look())
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt as request:
                view.note(f"stopping ({str(request) or 'Ctrl-C'}): every running run saves a checkpoint first")
                self._backend.stop()
                raise

    def _start(self, run: PlannedRun) -> None:
        self._running[run.run_dir] = (run, time.monotonic())
        self._backend.start(run.run_dir)

    def _finish(self, run_dir: Path, exit_code: int, view: ProgressView) -> None:
        run, started = self._running.pop(run_dir)
        if exit_code == BUSY:
            view.note(f"{run_dir.name} is being trained by another process; left to it")
            return
        if exit_code not in (DONE, FAILED, BAD_INPUT):
            settle_end(run_dir, exit_code)
            if self._retries_left[run_dir] > 0:
                self._retries_left[run_dir] -= 1
                view.note(f"{run_dir.name} was lost ({_cause(exit_code)}) and goes on from its last checkpoint")
                self._pending.appendleft(run)
                return
            lost = RunState.load(run_dir).model_copy(
                update={"status": Status.FAILED, "error": f"its process was lost ({_cause(exit_code)}) at every retry"}
            )
            lost.save(run_dir)
        self._learn_rate(run)
        view.ended(run_dir.name, RunState.load(run_dir), RunResult.load(run_dir), time.monotonic() - started)

    def _learn_rate(self, run: PlannedRun) -> None:
        result = RunResult.load(run.run_dir)
        if result is not None:
            self._rates.add(run.plan, result.flops, result.train_seconds + result.pause_seconds)

    def _look(self) -> tuple[list[Running], float | None]:
        """The running runs as their folders tell, and the seconds left for the study."""
        view, lefts = [], []
        rates = self._rates.copy()
        for run, started in self._running.values():
            state = RunState.load(run.run_dir)
            seconds = time.monotonic() - started
            steps = run.plan.schedule.steps
            step = state.step if state.status == "running" else 0
            phase = "starting" if step == 0 else "scoring" if step >= steps else ""
            view.append(Running(run.run_dir, step, steps, seconds, phase))
            lefts.append((run.plan, 1 - step / steps))
            share_done = (step - run.state.step) / steps
            if share_done >= TELLING_SHARE and not self._rates.knows(run.plan):
                rates.add(run.plan, train_flops(run.plan) * share_done, seconds)
        waiting = [run.plan for run in self._pending if run.standing != "evaluate"]
        return view, remaining_seconds(rates, waiting, lefts, self._backend.num_slots)


def _cause(exit_code: int) -> str:
    return f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
