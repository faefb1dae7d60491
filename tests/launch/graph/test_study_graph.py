"""Follow-ups: runs that are planned from what others found, found again by a launcher that starts anew."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.launch.graph.study_graph import Derived, FollowUp, StudyGraph
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.launch.watch import Watch
from scaling.records.attempts.contract import DONE, FAILED
from scaling.records.attempts.ends import forgive
from scaling.records.evaluation import Evaluation
from scaling.records.run_plan import RunPlan
from scaling.records.study import RunRecord, read_study
from scaling.spec.document import Document
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import ScriptedBackend

SEARCHED = [run_plan(learning_rate=rate) for rate in (1e-4, 1e-3, 1e-2)]
FINAL = [run_plan(learning_rate=rate, seed=7) for rate in (1e-4, 1e-3, 1e-2)]
LAST = run_plan(seed=9)


def follow_with_best(records: Mapping[str, RunRecord]) -> Derived:
    """The final run at the highest rate that did not fail, and one more run after it."""
    good = [record.plan.recipe.learning_rate for record in records.values() if record.result is not None]
    if not good:
        return Derived()
    (final,) = [plan for plan in FINAL if plan.recipe.learning_rate == max(good)]
    then = FollowUp("the last run", (final.run_id,), lambda records: Derived((LAST,)))
    return Derived((final,), (then,))


SEARCH = FollowUp("the final run", tuple(plan.run_id for plan in SEARCHED), follow_with_best)


def launch(study_dir: Path, script: dict[str, list[int]]) -> ScriptedBackend:
    write_study(study_dir, Document(study_dir / "sweep.yaml", {"study": "test"}), SEARCHED)
    graph = StudyGraph(study_dir, find_standings(study_dir, SEARCHED), [SEARCH])
    backend = ScriptedBackend(script, retries=0)
    Watch(backend, graph, study_dir, cap=None, retries=0).run()
    return backend


def test_a_search_is_followed_by_the_run_it_found_and_that_by_another(tmp_path: Path) -> None:
    script = {plan.run_id: [DONE] for plan in (*SEARCHED, *FINAL, LAST)} | {SEARCHED[2].run_id: [FAILED]}
    backend = launch(tmp_path, script)
    assert backend.started == [*(plan.run_id for plan in SEARCHED), FINAL[1].run_id, LAST.run_id]
    assert [record.plan.run_id for record in read_study(tmp_path).runs if record.in_plan] == backend.started
    assert launch(tmp_path, {}).started == []


def test_a_launcher_that_starts_again_finds_the_same_runs(tmp_path: Path) -> None:
    script = {plan.run_id: [DONE] for plan in (*SEARCHED, *FINAL)}
    with pytest.raises(KeyError):  # The script ends before the last run: the launcher is gone.
        launch(tmp_path, script)
    assert launch(tmp_path, {LAST.run_id: [DONE]}).started == [LAST.run_id]


def test_what_follow_ups_have_to_tell_is_told_once(tmp_path: Path) -> None:
    write_study(tmp_path, Document(tmp_path / "sweep.yaml", {"study": "test"}), [LAST])
    tell = FollowUp("a choice", (LAST.run_id,), lambda records: Derived(notes=("chosen: nothing",)))
    graph = StudyGraph(tmp_path, find_standings(tmp_path, [LAST]), [tell])
    assert (graph.notes(), graph.waiting) == ([], (tell,))
    Watch(ScriptedBackend({LAST.run_id: [FAILED]}, retries=0), graph, tmp_path, cap=None, retries=0).run()
    assert (graph.notes(), graph.waiting) == ([], ())
    again = StudyGraph(tmp_path, find_standings(tmp_path, [LAST]), [tell])
    assert (again.notes(), again.notes()) == (["chosen: nothing"], [])


def test_nothing_follows_where_all_failed(tmp_path: Path) -> None:
    assert len(launch(tmp_path, {plan.run_id: [FAILED] for plan in SEARCHED}).started) == 3


def evaluation_of(record: RunRecord, metrics: dict[str, float]) -> Evaluation:
    result = record.result
    assert result is not None
    return Evaluation(
        run_id=result.run_id,
        identity=result.identity,
        name="found",
        kind="search",
        digest="d",
        weights_sha256=result.weights_sha256,
        metrics=metrics,
        device=result.device,
        num_devices=1,
        precision="fp32",
        threads=1,
        packages={},
        version="0",
        git_commit="",
        git_dirty=False,
        seconds=1.0,
    )


def test_what_is_found_about_a_run_becomes_its_record_once(tmp_path: Path) -> None:
    """A record is written when the runs it is made of have ended, and not again by a launcher that finds the same."""

    def conclude(records: Mapping[str, RunRecord]) -> Derived:
        failed = tuple(run_id for run_id, record in records.items() if record.result is None)
        of = records[SEARCHED[0].run_id]
        return Derived(records=(evaluation_of(of, {"found/top1": 0.5}),), answered=failed)

    after = tuple(plan.run_id for plan in SEARCHED)
    found = FollowUp("what was found", after, conclude, foreseen=(LAST,))
    write_study(tmp_path, Document(tmp_path / "sweep.yaml", {"study": "test"}), SEARCHED)
    path = tmp_path / SEARCHED[0].run_id / "evals" / "found.json"
    stamps = []
    for script in ({run_id: [DONE] for run_id in after[:2]} | {after[2]: [FAILED]}, {}):
        graph = StudyGraph(tmp_path, find_standings(tmp_path, SEARCHED), [found])
        assert graph.foreseen() == ([LAST] if script else [])
        Watch(ScriptedBackend(script, retries=0), graph, tmp_path, cap=None, retries=0).run()
        assert graph.answered == {after[2]} and graph.waiting == () and graph.foreseen() == []
        stamps.append(path.stat().st_mtime_ns)
    assert stamps[0] == stamps[1]
    record = Evaluation.load(tmp_path / SEARCHED[0].run_id, "found")
    assert record is not None and record.metrics == {"found/top1": 0.5}


def test_runs_that_are_found_are_adopted(tmp_path: Path) -> None:
    """`--retry-failed` reaches runs that were planned from what others found."""
    script = {plan.run_id: [DONE] for plan in (*SEARCHED, LAST)} | {FINAL[2].run_id: [FAILED]}
    launch(tmp_path, script)
    seen: list[str] = []

    def adopt(run: PlannedRun) -> PlannedRun:
        seen.append(run.plan.run_id)
        forgive(run.run_dir)
        return run.look_again()

    graph = StudyGraph(tmp_path, find_standings(tmp_path, SEARCHED), [SEARCH], adopt=adopt)
    assert seen == [FINAL[2].run_id] and [run.plan.run_id for run in graph.ready()] == seen


def test_waiting_for_a_run_that_nobody_planned_is_told(tmp_path: Path) -> None:
    stray = FollowUp("fine-tuning", ("no-such-run",), lambda records: Derived())
    with pytest.raises(UserError, match="fine-tuning waits for no-such-run"):
        StudyGraph(tmp_path, [], [stray])


def test_the_plan_of_one_run_is_that_of_the_study(plan_tiny) -> None:
    """`Planner.plan_one` derives what planning the whole study derives."""
    from scaling.plan.planner import Planner
    from scaling.spec.study import load_study
    from scaling.spec.sweep import expand

    runs = plan_tiny("grid.seed=[0, 1]")
    sweep = runs[0].run_dir.parent.parent / "tiny.yaml"
    study, document = load_study(sweep, ["grid.seed=[0, 1]"])
    planner = Planner(study, document)
    specs = expand(study, document)
    plans: list[RunPlan] = [planner.plan_one(spec) for spec in specs]
    assert plans == [run.plan for run in runs]
