"""Planning is measured in fresh processes, and takes what a person waits for gladly."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from scaling.bench.command import main
from scaling.bench.launching import command as launching


def test_planning_is_measured_and_loads_no_pytorch(tmp_path: Path, capsys) -> None:
    """CPU seconds, since other tests run beside this one."""
    assert (
        main(["launch", "--runs", "1200", "--rounds", "1", "--slurm", "none", "--json", str(tmp_path / "figures.json")])
        == 0
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["cases"]) == [
        *("quickstart, 24 runs", "data_size, 28 runs"),
        *("1,200 runs", "1,200 runs, json"),
    ]
    for case in figures["cases"].values():
        assert not case["loads_torch"]
        assert case["cpu_seconds"] < 3 and case["peak_bytes"] < 200e6
    assert "loads PyTorch" in capsys.readouterr().out
    race = figures["race"]
    assert (race["runs"], race["most_attempts"]) == (4, 1) and min(race["wall_seconds"].values()) > 0
    assert "scaling.bench.launching.command" in sys.modules


def leave_out_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "measure_launch", lambda runs, rounds: {"cases": {}})
    monkeypatch.setattr(launching, "measure_race", lambda rounds: {"runs": 0, "most_attempts": 0, "wall_seconds": {}})


def test_a_thousand_array_tasks_are_measured_on_a_slurm_of_its_own(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(
        shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None for program in ("slurmctld", "sbatch")
    ):
        pytest.skip("Slurm is not installed: apt-get install --no-install-recommends slurm-wlm slurm-client")
    leave_out_planning(monkeypatch)
    assert main(["launch"]) == 0
    told = capsys.readouterr().out
    assert all(step in told for step in ("1,000 array tasks of Slurm", "submit", "poll", "scaling.status", "cancel"))


def test_where_no_slurm_answers_its_figures_are_left_out_with_a_word(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    leave_out_planning(monkeypatch)
    monkeypatch.setenv("PATH", "")
    assert main(["launch", "--slurm", "here"]) == 0
    assert "no Slurm answers here" in capsys.readouterr().out
