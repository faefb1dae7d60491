"""`scaling.evaluate` on a whole study: the same records as training's own, whatever ends it on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scaling.data.format.index import expand_urls, index_shards
from scaling.errors import UserError
from scaling.evaluate.command import main
from scaling.launch.study_dir import PlannedRun, write_study
from scaling.records.evaluation import Evaluation
from scaling.records.run_plan import RunPlan
from scaling.records.standing import find_standing
from scaling.records.study import load_run
from scaling.spec.document import Document
from tests.conftest import PlanTiny
from tests.support.local_runs import train_all
from tests.support.ranks import codes, start_run

RUNS = ("grid.seed=[0,1,2]", "protocol.steps=6")


def words(study: Path, data: Path, *others: str) -> list[str]:
    """Two evaluations that the sweep does not have."""
    told = [str(study), "--eval", str(study.parent / "more.yaml"), "--json", "--threads", "1", *others]
    evals = "".join(
        f"  - {{kind: fewshot, name: {name}, support: val.json, test: train.json, shots: [{shots}]}}\n"
        for name, shots in (("one", 1), ("three", 3))
    )
    (study.parent / "more.yaml").write_text(f"root: {json.dumps(str(data))}\nevals:\n{evals}")
    return told


def numbers(runs: list[PlannedRun]) -> dict[str, dict[str, float]]:
    return {run.plan.run_id: dict(load_run(run.run_dir).metrics) for run in runs}


def test_a_study_is_scored_again_and_a_kill_changes_no_number(
    plan_tiny: PlanTiny, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = plan_tiny(*RUNS)
    train_all(runs)
    study = runs[0].run_dir.parent
    before = numbers(runs)
    command = [sys.executable, "-m", "scaling.evaluate", *words(study, tiny_data, "--max-parallel", "1")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900  # Its cores may be taken by others for long.
    while not list(study.glob("*/evals/one.json")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in study.glob("*/evals/*.json")}
    assert any(not (run.run_dir / "evals" / "three.json").exists() for run in runs)

    assert main(words(study, tiny_data)) == 0
    told = {one["run_id"]: one for one in json.loads(capsys.readouterr().out)}
    assert {path: path.stat().st_mtime_ns for path in done} == done
    broken = numbers(runs)
    for run in runs:
        assert {**before[run.plan.run_id]}.items() <= broken[run.plan.run_id].items()
        assert told[run.plan.run_id]["metrics"] == {
            key: value for key, value in broken[run.plan.run_id].items() if key.startswith(("one/", "three/"))
        }
        for name in ("one", "three"):
            (run.run_dir / "evals" / f"{name}.json").unlink()
    assert main(words(study, tiny_data)) == 0
    assert numbers(runs) == broken


def test_added_evaluations_stay_when_the_study_is_planned_again(
    plan_tiny: PlanTiny, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = runs = plan_tiny("protocol.steps=6")
    train_all(runs)
    trained = RunPlan.load(run.run_dir)
    assert main(words(run.run_dir.parent, tiny_data)) == 0
    plan = RunPlan.load(run.run_dir)
    assert [(one.name, one.added) for one in plan.evals] == [("fewshot", False), ("one", True), ("three", True)]
    assert plan.model_copy(update={"evals": trained.evals}) == trained
    write_study(run.run_dir.parent, Document(Path("x"), {}), [trained])
    assert RunPlan.load(run.run_dir) == plan
    assert find_standing(run.run_dir, plan).is_finished
    record = Evaluation.load(run.run_dir, "one")
    assert record is not None and record.seconds > 0 and record.git_commit and record.data[0].split == "support"
    capsys.readouterr()
    with pytest.raises(UserError, match="the runs plan it with settings of their own; add --name"):
        main([str(run.run_dir), "--eval", "fewshot", "--set", "shots=[1]"])
    with pytest.raises(UserError, match="'one' was asked for with other settings or data before"):
        main([*words(run.run_dir, tiny_data), "--set", "evals.0.shots=[4]"])
    five = run.run_dir.parent.parent / "five.json"
    index_shards(expand_urls([str(tiny_data / "val")]), five, name="five", classes=list("abcde"))
    asked = [str(run.run_dir), "--eval", "upstream", "--set"]
    with pytest.raises(UserError, match=r"five.json has 5 classes and .*train.json 4"):
        main([*asked, f"test={five}"])
    with pytest.raises(UserError, match="loss: sigmoid is not what the runs are trained by; write loss: softmax"):
        main([*asked, f"test={tiny_data / 'val.json'}", "--set", "loss=sigmoid"])
    assert RunPlan.load(run.run_dir) == plan


def test_processes_share_an_evaluation(plan_tiny: PlanTiny, tiny_data: Path) -> None:
    """Two ranks embed half of the images each; a trained run is scored by both, and at the end of training too."""
    alone, together = plan_tiny("protocol.steps=6", name="a")[0], plan_tiny("protocol.steps=6", name="b")[0]
    train_all([alone])
    assert codes(start_run(together.run_dir, 2)) == [0, 0]
    shared: Any = Evaluation.load(together.run_dir, "fewshot")
    assert shared.num_devices == 2
    for run in (alone, together):
        (run.run_dir / "evals" / "fewshot.json").unlink()
        assert codes(start_run(run.run_dir, 2)) == [0, 0]
    one: Any = Evaluation.load(together.run_dir, "fewshot")
    assert one.metrics == shared.metrics and one.num_devices == 2
    other: Any = Evaluation.load(alone.run_dir, "fewshot")
    (alone.run_dir / "evals" / "fewshot.json").unlink()
    train_all([alone.look_again()])
    single: Any = Evaluation.load(alone.run_dir, "fewshot")
    assert single.num_devices == 1
    for name, value in single.metrics.items():
        # A feature's last bits depend on the images of its batch: one arg-max of 80 may differ.
        assert other.metrics[name] == pytest.approx(value, abs=1 / 80 + 1e-9)


def test_what_is_no_run_is_named(tmp_path: Path, plan_tiny: PlanTiny) -> None:
    with pytest.raises(UserError, match="holds no run"):
        main([str(tmp_path)])
    run = plan_tiny()[0]
    with pytest.raises(UserError, match="nothing is trained yet"):
        main([str(run.run_dir)])
    with pytest.raises(UserError, match="no such evaluation; did you mean 'fewshot'"):
        train_all([run])
        main([str(run.run_dir), "--eval", "fewshots"])


@pytest.mark.parametrize(
    "option",
    [
        *("--precision bf16", "--num-images 7", "--out elsewhere"),
        *("--name other", "--root /nowhere", "--set shots=[1]", "--no-record --num-images 7"),
    ],
)
def test_an_option_that_scoring_runs_does_not_go_by_is_refused(option: str, plan_tiny: PlanTiny) -> None:
    run = plan_tiny()[0]
    with pytest.raises(UserError, match=f"{option.removeprefix('--no-record ').split()[0]} .*leave it out"):
        main([str(run.run_dir), *option.split()])
