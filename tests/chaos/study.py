"""The study that is attacked: one tiny run, its unbroken twin, and the comparison of the two."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from scaling.data.format.index import expand_urls, index_shards
from tests.support.tiny_study import TINY_SWEEP, write_shards

OPTIONS = ("protocol.steps=120", "defaults.keep_checkpoints=2", "launch.retries=20")

REPOSITORY = Path(__file__).parents[2]

LAUNCH_SECONDS = 600
"""A launcher that takes longer hangs."""

NOT_COMPARED = re.compile(r"seconds|per_second|throughput|unix_time|memory|mfu")
"""Numbers of the machine, not of the run."""

FILE = re.compile(r"(/\S+?\.(?:jsonl|json|yaml|txt))\b")
"""A record that a message names."""


@dataclass
class Trial:
    """One copy of the planned study under attack."""

    sweep: Path
    out: Path
    damaged: set[str] = field(default_factory=set)
    """Names of files that an attack damaged."""
    tracebacks: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    @property
    def run_dir(self) -> Path:
        """The folder of the only run; it stays the same when files in it are lost."""
        (folder,) = (path for path in (self.out / "tiny").iterdir() if path.is_dir() and path.name.startswith("mixer"))
        return folder

    def start_launcher(self) -> "subprocess.Popen[str]":
        """`python -m scaling.launch` as a person types it."""
        command = [sys.executable, "-m", "scaling.launch", str(self.sweep), "--out", str(self.out), "--retry-failed"]
        command += [part for option in OPTIONS for part in ("--set", option)]
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def check_output(self, launcher: "subprocess.Popen[str]") -> int:
        """Wait for a launcher; note tracebacks and refusals; its exit code."""
        try:
            output, _ = launcher.communicate(timeout=LAUNCH_SECONDS)
        except subprocess.TimeoutExpired:
            launcher.kill()
            output, _ = launcher.communicate()
            self.tracebacks.append(f"the launcher hung for {LAUNCH_SECONDS} s:\n{output}")
            return 1
        if "Traceback (most recent call last)" in output:
            self.tracebacks.append(output)
        elif launcher.returncode != 0:
            self.refusals.append(output)
        return launcher.returncode

    def finish(self) -> bool:
        """Launch until the study is done; a record that a refusal names is removed, as its sentence says."""
        for _ in range(4):
            if self.check_output(self.start_launcher()) == 0:
                return True
            named = [
                Path(name) for name in re.findall(r"(/\S+?\.(?:jsonl|json|yaml|txt))\b", "".join(self.refusals[-1:]))
            ]
            for path in named:
                if path.is_relative_to(self.out) and path.exists():
                    path.unlink()
        return False


def make_study(folder: Path) -> Path:
    """Data and sweep file of the study."""
    for split, num_shards, seed in (("train", 5, 0), ("val", 2, 1)):
        write_shards(folder / "data" / split, num_shards, seed)
        index_shards(expand_urls([str(folder / "data" / split)]), folder / "data" / f"{split}.json", name=split)
    sweep = folder / "tiny.yaml"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(folder / "data"))))
    return sweep


def new_trial(sweep: Path, planned: Path, out: Path) -> Trial:
    """A copy of the planned study that nobody has trained."""
    shutil.copytree(planned, out)
    return Trial(sweep, out)


def numbers(run_dir: Path) -> dict[str, Any]:
    """All that must be equal whatever happened to the run: metrics, counts, the log's evaluations, the weights."""
    from scaling.records.events import read_events

    result = json.loads((run_dir / "result.json").read_text())
    found: dict[str, Any] = {
        name: result[name] for name in ("best_step", "steps", "examples_seen", "unique_examples", "flops")
    }
    found |= {name: value for name, value in result["metrics"].items() if not NOT_COMPARED.search(name)}
    for path in sorted((run_dir / "evals").glob("*.json")) if (run_dir / "evals").exists() else []:
        metrics = json.loads(path.read_text())["metrics"]
        found |= {name: value for name, value in metrics.items() if not NOT_COMPARED.search(name)}
    for event in read_events(run_dir / "events.jsonl").events:
        if event.kind in ("step", "eval"):
            shown = {name: value for name, value in event.metrics.items() if not NOT_COMPARED.search(name)}
            found |= {f"{event.kind} {event.step} {name}": value for name, value in shown.items()}
    weights = run_dir / "checkpoints" / "best" / "model.safetensors"
    if weights.exists():
        tensors = load_file(weights)
        found["weights"] = hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()
    return found


def differences(reference: dict[str, Any], found: dict[str, Any], damaged: set[str]) -> list[str]:
    """Numbers of `found` that differ from the unbroken run's.

    Rows of a log that was damaged may be missing, and weights damaged after training are not its numbers; every other
    number has to be there.
    """
    wrong = []
    for name, value in reference.items():
        is_row, is_weights = name.startswith(("step ", "eval ")), name == "weights"
        if name not in found:
            if not (is_row and "events.jsonl" in damaged) and not (is_weights and damaged):
                wrong.append(f"{name} is missing")
        elif found[name] != value and not (is_weights and "model.safetensors" in damaged):
            wrong.append(f"{name}: {value} became {found[name]}")
    return wrong
