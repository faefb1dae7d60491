"""The numbers of a run that must be equal whatever happened to it, and their comparison."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from scaling.records.events import read_events

NOT_COMPARED = re.compile(r"seconds|per_second|throughput|unix_time|memory|mfu")
"""Numbers of the machine, not of the run."""

COUNTS = ("best_step", "steps", "examples_seen", "unique_examples", "flops")


def numbers(run_dir: Path) -> dict[str, Any]:
    """Metrics, counts, the log's rows and the weights; empty for a run without a result."""
    if not (run_dir / "result.json").is_file():
        return {}
    result = json.loads((run_dir / "result.json").read_text())
    found: dict[str, Any] = {name: result[name] for name in COUNTS}
    found |= _of_the_run(result["metrics"])
    for path in sorted((run_dir / "evals").glob("*.json")):
        if path.is_file():
            found |= _of_the_run(json.loads(path.read_text())["metrics"])
    for event in read_events(run_dir / "events.jsonl").events:
        if event.kind in ("step", "eval") and event.run_id == run_dir.name:
            shown = _of_the_run(event.metrics)
            found |= {f"{event.kind} {event.step} {name}": value for name, value in shown.items()}
    weights = run_dir / "checkpoints" / "best" / "model.safetensors"
    if weights.is_file():
        try:
            tensors = load_file(weights)
        except Exception as error:  # A damaged file is a finding of the comparison.
            found["weights"] = f"unreadable: {error}"
        else:
            content = b"".join(tensors[name].tobytes() for name in sorted(tensors))
            found["weights"] = hashlib.sha256(content).hexdigest()
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


def _of_the_run(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not NOT_COMPARED.search(name)}
