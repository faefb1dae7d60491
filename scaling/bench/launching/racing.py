"""Two launchers of one study started at the same moment, beside one alone: how long until all is trained, and how often
each run was."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scaling.launch.ensure_data import ensure_data
from scaling.records.attempts.attempt import latest_number
from scaling.records.run_dir import StudyDir
from scaling.spec.study import load_study

SWEEP = """\
study: race
data: {root: data, train: train/manifest.json, val: val/manifest.json, make: {num_train: 400, shard_samples: 100}}
protocol: {kind: constant_steps, steps: 40, batch: 16}
defaults: {learning_rate: 3.0e-3}
grid: {model: [mixer-laptop-32px], fraction: [0.25, 1.0], seed: [0, 1]}
"""


def measure_race(rounds: int) -> dict[str, Any]:
    """Median wall seconds until all of one, or two, launchers have ended; the study's runs, and the most attempts that
    any of them took. RuntimeError when a launcher ends with another code than 0."""
    seconds: dict[str, list[float]] = {"one launcher": [], "two launchers at once": []}
    attempts: list[int] = []
    with tempfile.TemporaryDirectory(prefix="scaling-bench-race-") as name:
        folder = Path(name)
        (folder / "race.yaml").write_text(SWEEP)
        ensure_data(load_study(folder / "race.yaml", [])[0])
        for number in range(rounds):
            for num_launchers, found in enumerate(seconds.values(), start=1):
                out = folder / f"{num_launchers}-{number}"
                found.append(_launch(folder / "race.yaml", out, num_launchers))
                attempts += [latest_number(run.path) for run in StudyDir(out / "race").run_dirs()]
    return {
        "wall_seconds": {name: statistics.median(found) for name, found in seconds.items()},
        "runs": len(attempts) // (2 * rounds),
        "most_attempts": max(attempts),
    }


def _launch(sweep: Path, out: Path, num_launchers: int) -> float:
    command = [sys.executable, "-m", "scaling.launch", str(sweep), "--out", str(out), "--no-report"]
    started = time.perf_counter()
    launchers = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(num_launchers)
    ]
    for launcher in launchers:
        _, told = launcher.communicate()
        if launcher.returncode != 0:
            raise RuntimeError(f"a launcher ended with code {launcher.returncode}:\n{told}")
    return time.perf_counter() - started
