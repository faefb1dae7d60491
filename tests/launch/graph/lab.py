"""A study with a search, launched on the scripted back end, which ends runs at once."""

from pathlib import Path

from scaling.launch.graph.beginning import Beginning
from scaling.launch.graph.study_graph import StudyGraph
from scaling.launch.study_dir import find_standings, write_study
from scaling.launch.watch import Watch
from scaling.plan.planner import Planner
from scaling.records.attempts.contract import DONE
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.study import RunRecord, read_study
from scaling.spec.study import load_study
from tests.support.scripted_backend import ScriptedBackend, result_of

TUNE = """\
tune:
  space: {learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}
  num_trials: 4
  metric: upstream/precision_at_1
"""


def result(plan: RunPlan) -> RunResult:
    """Best at a learning rate of 1e-3, worse with every factor from it."""
    rate = plan.recipe.learning_rate
    return result_of(plan, min(rate, 1e-3) / max(rate, 1e-3))


class Lab:
    """Launches a study on the scripted back end."""

    def __init__(self, sweep: Path, study_dir: Path) -> None:
        self.sweep, self.study_dir = sweep, study_dir
        self.started: list[str] = []
        self.notes: list[str] = []

    def begin(self, *options: str) -> Beginning:
        study, document = load_study(self.sweep, ["evals=[]", *options])  # The scripted back end scores nothing.
        beginning = Beginning.of(study, document, Planner(study, document))
        write_study(self.study_dir, document, beginning.runs)
        return beginning

    def launch(self, *options: str, codes: dict[str, int] | None = None, default: int | None = DONE) -> None:
        beginning = self.begin(*options)
        graph = Telling(self.study_dir, find_standings(self.study_dir, beginning.runs), beginning.follow_ups)
        graph.kept = self.notes = []
        script = {run_id: [code] for run_id, code in (codes or {}).items()}
        backend = ScriptedBackend(script, retries=0, default=default, result=result)
        watch = Watch(backend, graph, self.study_dir, cap=None, retries=0)
        try:
            watch.run()
        finally:
            self.started = backend.started

    def trials(self, *options: str) -> list[RunPlan]:
        return list(self.begin(*options).runs)

    def records(self) -> dict[str, RunRecord]:
        return {record.plan.run_id: record for record in read_study(self.study_dir).runs if record.in_plan}

    def finals(self) -> list[RunPlan]:
        return [record.plan for record in self.records().values() if record.plan.trial is None]


class Telling(StudyGraph):
    """A graph whose notes are kept."""

    kept: list[str]

    def notes(self) -> list[str]:
        told = super().notes()
        self.kept += told
        return told


def rates(plans: list[RunPlan]) -> list[float]:
    return [plan.recipe.learning_rate for plan in plans]


def best_rate(plans: list[RunPlan]) -> float:
    return max(rates(plans), key=lambda rate: min(rate, 1e-3) / max(rate, 1e-3))
