"""The command line on a Slurm: submit and leave, come back, wait, report; cancel and bring back."""

import json
import subprocess
import sys
from pathlib import Path

from scaling.records.attempts.attempt import latest_number
from scaling.records.run_dir import RunDir, StudyDir
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import needs_slurm
from tests.support.tiny_study import TINY_SWEEP

pytestmark = needs_slurm


def test_a_detached_study_is_adopted_watched_and_reported(start_lab: StartLab, tiny_data: Path, tmp_path: Path) -> None:
    lab = start_lab("--nodes", "1", "--cpus", "2")
    sweep = tmp_path / "tiny.yaml"
    section = "launch: {backend: slurm, slurm: {poll: 1s, time: 10m, max_parallel: 1}}\n"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))) + section)

    def launch(*options: str) -> subprocess.CompletedProcess[str]:
        changes = ("--set", "protocol.steps=4", "--set", "grid.seed=[0,1]", "--out", str(tmp_path / "runs"))
        command = [sys.executable, "-m", "scaling.launch", str(sweep), *changes, *options]
        return subprocess.run(
            command, env=lab.environment, capture_output=True, text=True, check=False, timeout=180, cwd=tmp_path
        )

    left = launch("--detach")
    assert left.returncode == 0 and "2 runs submitted" in left.stderr, left.stderr
    runs = StudyDir(tmp_path / "runs" / "tiny").run_dirs()
    cancelled = launch("--cancel", runs[1].path.name)
    assert cancelled.returncode == 0 and "asked to stop" in cancelled.stderr, cancelled.stderr
    back = launch("--no-report")
    assert back.returncode == 1, back.stderr
    assert RunDir(runs[0].path).result.exists() and not RunDir(runs[1].path).result.exists()
    assert "not finished, cancelled" in back.stderr
    again = launch("--retry-failed")
    assert again.returncode == 0, again.stderr
    assert [latest_number(run.path) for run in runs] == [1, latest_number(runs[1].path)]
    assert (tmp_path / "runs" / "tiny" / "report" / "index.html").exists()
