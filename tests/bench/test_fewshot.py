"""The bench of the few-shot probe: two solvers on the same features, on one core, that have to score alike."""

import json
import os
from pathlib import Path

import pytest

from scaling.bench import fewshot
from scaling.bench.command import main
from scaling.errors import UserError

SMALL = ["--classes", "20", "--shots", "4", "--features", "256", "--test-images", "5000", "--rounds", "3"]


def test_both_solvers_score_alike_and_are_timed_in_every_round(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = os.sched_getaffinity(0)
    assert main(["fewshot", *SMALL, "--json", str(tmp_path / "out.json")]) == 0
    assert os.sched_getaffinity(0) == cores
    figures = json.loads((tmp_path / "out.json").read_text())
    ours, peer = figures["solvers"][fewshot.OURS], figures["solvers"][fewshot.PEER]
    assert ours["top1"] == peer["top1"] > 2 / 20
    for one in (ours, peer):
        assert len(one["cpu_seconds"]) == len(one["wall_seconds"]) == 3 and min(one["wall_seconds"]) > 0
    assert figures["largest_difference"] < 1e-10
    assert figures["sizes"] == {"classes": 20, "shots": 4, "features": 256, "test_images": 5000}
    assert {"numpy", "scikit-learn", "processor"} <= figures["machine"].keys() and figures["threads"] == 1
    printed = capsys.readouterr().out
    assert fewshot.PEER in printed and "largest difference" in printed


def test_the_default_size_is_that_of_imagenet() -> None:
    assert fewshot.Sizes(classes=1000, shots=25, features=1024, test_images=50_000) == fewshot.IMAGENET


def test_without_the_peer_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fewshot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="beside scikit-learn, which is not installed; add the extra 'bench'"):
        main(["fewshot", *SMALL])
