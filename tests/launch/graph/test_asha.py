"""A search that stops trials early, launched: the same choice however fast the machines are and whatever breaks."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.launch.backends.base import Look
from scaling.launch.graph.beginning import Beginning
from scaling.launch.graph.study_graph import StudyGraph
from scaling.launch.study_dir import find_standings, write_study
from scaling.launch.watch import Watch
from scaling.plan.planner import Planner
from scaling.records.attempts.attempt import claim_attempt, latest_number
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.events import EventWriter, Kind
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.records.scores.search import cells_of
from scaling.records.state import RunState, Status
from scaling.records.study import RunRecord, read_study
from scaling.spec.study import load_study
from tests.support.log_rows import log_row
from tests.support.scripted_backend import ScriptedBackend, result_of
from tests.support.tiny_study import TINY_SWEEP

TUNE = """\
tune:
  space: {learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}
  num_trials: 6
  scheduler: asha
  reduction_factor: 2
  metric: upstream/precision_at_1
"""

VALIDATE_STEPS = 10


def accuracy(plan: RunPlan, step: int) -> float:
    """Best at a learning rate of 1e-3; a high rate looks better at first than it is."""
    rate = plan.recipe.learning_rate
    share = step / plan.schedule.steps
    return min(rate, 1e-3) / max(rate, 1e-3) * share + 0.3 * (1 - share) * rate / 1e-2


class ClimbingBackend(ScriptedBackend):
    """Each poll takes some of the running runs, by chance, to their next validation; its launcher is lost after
    `polls`. A run that was asked to stop hears of it some polls later."""

    def __init__(self, chance: random.Random, room: int, polls: int) -> None:
        super().__init__({}, retries=0, result=lambda plan: result_of(plan, accuracy(plan, plan.schedule.steps)))
        self.chance, self.room, self.polls = chance, room, polls

    def poll(self, study_dir: Path) -> dict[Path, Look]:
        self.polls -= 1
        if self.polls < 0:
            raise KeyError("the launcher is gone")
        while self._queue and len(self._running) < self.room:
            self._running.append(self._queue.pop(0))
            self.started.append(self._running[-1].name)
            claim_attempt(self._running[-1])
            self._log(self._running[-1], "start", RunState.load(self._running[-1]).step)
        for run_dir in list(self._running):
            if self.chance.random() < 0.5:
                self._advance(run_dir)
        looks = dict.fromkeys(self._queue, Look("queued")) | dict.fromkeys(self._running, Look("running"))
        return self._ended | looks

    def _advance(self, run_dir: Path) -> None:
        plan, step = RunPlan.load(run_dir), RunState.load(run_dir).step
        if requested_stop(run_dir) and self.chance.random() < 0.5:
            attempt = latest_number(run_dir)
            append_end(run_dir, End(attempt=attempt, cause=Cause.PRUNED, step=step))
            self._leave(run_dir, Cause.PRUNED)
            return
        step += VALIDATE_STEPS
        RunState(attempt=latest_number(run_dir), status=Status.RUNNING, step=step).save(run_dir)
        self._log(run_dir, "eval", step, {"upstream/precision_at_1": accuracy(plan, step)})
        if step == plan.schedule.steps:
            self._result(plan).save(run_dir)
            self._leave(run_dir, Cause.DONE)

    def _leave(self, run_dir: Path, cause: Cause) -> None:
        self._running.remove(run_dir)
        self._ended[run_dir] = Look("ended", cause=cause)

    def _log(self, run_dir: Path, kind: Kind, step: int, metrics: Mapping[str, float] | None = None) -> None:
        with EventWriter(RunDir(run_dir).events) as writer:
            row = log_row(run_dir.name, kind, step, dict(metrics or {}), attempt=latest_number(run_dir), batch=1)
            writer.write(row)


@pytest.fixture
def sweep(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))) + TUNE)
    return path


def launch(
    sweep: Path, study_dir: Path, backend: ClimbingBackend, options: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scaling.launch.graph.referee.LOOK_SECONDS", 0.0)
    study, document = load_study(sweep, ["evals=[]", *options])
    beginning = Beginning.of(study, document, Planner(study, document))
    write_study(study_dir, document, beginning.runs)
    graph = StudyGraph(study_dir, find_standings(study_dir, beginning.runs), beginning.follow_ups)
    Watch(backend, graph, study_dir, cap=None, retries=0).run()


def search(
    sweep: Path, study_dir: Path, seed: int, monkeypatch: pytest.MonkeyPatch, *, room: int, options: Sequence[str] = ()
) -> dict[str, RunRecord]:
    """Launch until done, with launchers that are lost now and then, on a machine of chance."""
    chance = random.Random(seed)
    for _ in range(200):
        backend = ClimbingBackend(chance, room, polls=chance.randrange(3, 60))
        try:
            launch(sweep, study_dir, backend, options, monkeypatch)
            break
        except KeyError:
            continue
    return {record.plan.run_id: record for record in read_study(study_dir).runs if record.in_plan}


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("tune.seeds=[7, 8]", "tune.num_trials=4", "tune.extend=1"),
        ("tune.search=optuna", "tune.num_trials=14"),
    ],
)
def test_the_same_trials_are_out_on_every_machine(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Sequence[str]
) -> None:
    expected, pruned = None, []
    for number, room in enumerate((1, 3, 12)):
        found = search(sweep, tmp_path / f"study-{number}", number, monkeypatch, room=room, options=options)
        (cell,) = cells_of(record for record in found.values()).values()
        choices = [record.plan.choice for record in found.values() if record.plan.trial is None]
        assert all(record.result is not None for record in found.values() if record.plan.trial is None)
        told = (list(found), [trial.stopped_at for trial in cell], choices)
        expected = expected or told
        assert told == expected
        pruned.append(sum(record.standing.status is Status.PRUNED for record in found.values()))
        for trial in cell:
            if trial.stopped_at is None:
                assert all(record.standing.status is Status.DONE for record in trial.records)
            else:
                assert trial.score is None and "stopped by the search at step" in trial.problem
    assert expected is not None
    _, stopped, choices = expected
    assert len(choices) == 1 and choices[0] is not None
    assert None in stopped and {0, 1} <= set(stopped)
    assert choices[0].number in [number for number, rung in enumerate(stopped) if rung is None]
    assert max(pruned) > 0, "and some of them could be stopped in time"


def test_a_stopped_trial_is_no_failure_and_never_resumed(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = search(sweep, tmp_path / "study", 0, monkeypatch, room=1)
    assert Status.PRUNED in {record.standing.status for record in found.values()}
    again = ClimbingBackend(random.Random(0), 1, polls=50)
    launch(sweep, tmp_path / "study", again, (), monkeypatch)
    assert again.started == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["tune.metric=fewshot/2shot_top1"], "is measured after training"),
        (["tune.grace_period=3"], "lower grace_period"),
        (
            ["tune.space={protocol.steps: {choice: [30, 60]}}", "tune.num_trials=2"],
            "validate 3 and 6 times, so their trials cannot be compared",
        ),
        (["tune.scheduler=none"], "no trial is stopped early without scheduler: asha"),
    ],
)
def test_what_cannot_be_judged_is_refused(sweep: Path, options: list[str], words: str) -> None:
    with pytest.raises(UserError) as refused:
        study, document = load_study(sweep, options)
        Beginning.of(study, document, Planner(study, document))
    assert words in str(refused.value)
