"""`scaling.evaluate` on real runs: the numbers of the record, from the run folder and from the weights alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from scaling.data.format.index import expand_urls, index_shards
from scaling.errors import UserError
from scaling.evals.command import main
from scaling.launch.study_dir import PlannedRun
from scaling.records.run_plan import InputPlan
from scaling.records.study import load_run
from tests.support.local_runs import train_all
from tests.support.run_plans import named
from tests.support.tiny_study import encode


def fewshot(capsys: pytest.CaptureFixture[str], *words: str) -> float:
    assert main([*words, "--threads", "1", "--json"]) == 0
    accuracy: float = json.loads(capsys.readouterr().out)["metrics"]["fewshot/2shot_top1"]
    return accuracy


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Manifest of 60 noisy images whose classes have one mean colour and differ in where their stripes lie."""
    generator = np.random.default_rng(0)
    (tmp_path / "stripes").mkdir()
    with webdataset.TarWriter(str(tmp_path / "stripes" / "stripes.tar")) as writer:
        for number in range(60):
            waves = np.sin(2 * np.pi * (np.arange(24) / 24 * (number % 3 + 1)))[:, None, None]
            pixels = np.clip(128 + 40 * waves + generator.normal(0, 60, (24, 24, 3)), 0, 255).astype(np.uint8)
            writer.write({"__key__": f"{number:03d}", "png": encode(pixels), "cls": str(number % 3)})
    index_shards(expand_urls([str(tmp_path / "stripes")]), tmp_path / "stripes.json", name="stripes")
    return tmp_path / "stripes.json"


def test_kept_weights_score_what_the_record_says_whatever_their_input(
    plan_tiny: Callable[..., list[PlannedRun]], stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weights file knows the permutation that its model was trained under: forgetting it changes the accuracy."""
    evaluation = f"evals=[{{kind: fewshot, support: {stripes}, test: {stripes}, shots: [2]}}]"
    runs = plan_tiny("grid.permute=[none, patches_and_pixels, global]", "protocol.steps=12", evaluation)
    train_all(runs)
    told = ["--eval", "fewshot", "--set", f"support={stripes}", "--set", f"test={stripes}", "--set", "shots=[2]"]
    for run in runs:
        recorded = load_run(run.run_dir).metrics["fewshot/2shot_top1"]
        alone = tmp_path / f"{run.plan.run_id}.safetensors"
        shutil.copy(run.run_dir / "checkpoints" / "best" / "model.safetensors", alone)
        assert fewshot(capsys, str(run.run_dir)) == recorded
        assert fewshot(capsys, str(alone), *told) == recorded
        if run.plan.input.permute != "none":
            named(run.plan.model_copy(update={"input": InputPlan()})).save(run.run_dir)
            assert fewshot(capsys, str(run.run_dir)) != recorded


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run.json"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match=r"there is no such file"):
        main([str(tmp_path / "a.safetensors"), "--eval", "fewshot"])
    with pytest.raises(UserError, match=r"no such evaluation; did you mean 'fewshot'"):
        main([str(tmp_path / "a.npz"), "--model", "mixer-b/32", "--eval", "fewshots"])
