"""Judges the trials of a study's searches while they train: which of them are to be stopped, because others do better.

It reads what the trials logged and decides by `scaling.records.scores.rungs`, so it needs nothing of the place where
they are executed, and a launcher that starts again decides as the one that is gone.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from scaling.launch.study_dir import PlannedRun
from scaling.records.files import canonical_json
from scaling.records.run_dir import RunDir
from scaling.records.scores.rungs import Climb, mean_climb, scores_at
from scaling.records.scores.search import judge_trials
from scaling.records.scores.search_plan import TrialPlan

LOOK_SECONDS = 1.0
"""How often the trials' logs are looked at."""

Signature = tuple[int, int, int]


class Referee:
    """Use one for a launcher's session; remembers what it has read of each log until that grows."""

    def __init__(self) -> None:
        self._next_look = 0.0
        self._read: dict[Path, tuple[Signature, tuple[float, ...]]] = {}

    def to_stop(self, runs: Iterable[PlannedRun]) -> list[Path]:
        """Folders of the runs, among those that have not ended, of trials that are out; nothing between two looks."""
        now = time.monotonic()
        if now < self._next_look:
            return []
        self._next_look = now + LOOK_SECONDS
        cells: dict[str, dict[int, list[PlannedRun]]] = defaultdict(lambda: defaultdict(list))
        for run in runs:
            if run.plan.trial is not None and run.plan.trial.rungs:
                cells[canonical_json(run.plan.trial.cell)][run.plan.trial.number].append(run)
        return [run_dir for trials in cells.values() for run_dir in self._judge(trials)]

    def _judge(self, trials: dict[int, list[PlannedRun]]) -> list[Path]:
        groups = [trials[number] for number in sorted(trials)]
        if all(run.standing.has_ended for group in groups for run in group):
            return []
        plans = [group[0].plan.trial for group in groups]
        climbs = [mean_climb([self._climb(run) for run in group]) for group in groups]
        verdicts = judge_trials([plan for plan in plans if plan is not None], climbs)
        return [
            run.run_dir
            for group, verdict in zip(groups, verdicts, strict=True)
            for run in group
            if verdict.stopped_at is not None and not run.standing.has_ended
        ]

    def _climb(self, run: PlannedRun) -> Climb:
        plan = run.plan.trial
        assert plan is not None
        return Climb(self._scores(run.run_dir, plan), run.standing.result is not None or run.standing.has_ended)

    def _scores(self, run_dir: Path, plan: TrialPlan) -> tuple[float, ...]:
        try:
            found = RunDir(run_dir).events.stat()
        except OSError:
            return ()
        signature = (found.st_ino, found.st_size, found.st_mtime_ns)
        known = self._read.get(run_dir)
        if known is None or known[0] != signature:
            known = self._read[run_dir] = (signature, scores_at(run_dir, plan.metric, plan.rungs))
        return known[1]
