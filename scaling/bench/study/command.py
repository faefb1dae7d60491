"""`python -m scaling.bench study`: where the time of a whole study goes, from the command to the report.

The sweep is launched as a person would launch it, in a scratch folder and, when it makes its own data, with fresh data
there. Its records then tell how long each run took to start, stepped, waited for images, validated, saved and was
scored. Time is that of the wall, divided by the runs that ran side by side, and beside it that of the processor, which
other programs on the machine disturb less.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from scaling.bench.command import add_json, write_json
from scaling.bench.machine import describe_machine
from scaling.bench.study.processor_time import ProcessorTime
from scaling.bench.study.split import REPORT, START, STEPS, THROUGHPUT, Runs, read_runs
from scaling.errors import UserError
from scaling.launch.ensure_data import ensure_data
from scaling.readable import plain_table
from scaling.records.run_dir import StudyDir
from scaling.records.scores.throughput import read_rows
from scaling.spec.study import load_study

LIBRARIES = ("torch", "deepspeed", "timm", "numpy")

GOAL = 0.25
"""At most this share of the time from the command to the report may be spent on anything but steps."""

LAUNCHER = "launcher beside the runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.epilog = (
        "examples:\n  python -m scaling.bench study\n"
        "  python -m scaling.bench study sweeps/permutation.yaml --set grid.seed=[0] --json permutation.json"
    )
    parser.add_argument(
        "sweep", nargs="?", type=Path, default=Path("sweeps/quickstart.yaml"), help="default: sweeps/quickstart.yaml"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in scaling.launch")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="run in this new folder and leave it")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    if args.keep and args.keep.exists():
        raise UserError(f"--keep {args.keep} exists; a study is measured from its start, so name a new folder")
    folder = args.keep or Path(tempfile.mkdtemp(prefix="scaling-bench-study-"))
    try:
        figures = measure_study(args.sweep, args.set, folder)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    rows = [
        [part, f"{spent['wall_seconds']:.1f}", f"{spent['share']:.1%}", f"{spent['cpu_seconds']:.1f}"]
        for part, spent in figures["parts"].items()
    ]
    print(plain_table(["part", "wall s", "share", "CPU s"], rows))
    print(
        f"{figures['study']}: {figures['runs']} runs, {figures['side_by_side']} side by side, "
        f"{figures['wall_seconds']:.0f} s and {figures['cpu_seconds']:.0f} CPU seconds"
        + (f" after {figures['data_seconds']:.0f} s of making data" if figures["data_seconds"] else "")
        + f"; everything but steps: {figures['share_beside_steps']:.1%} (goal: at most {GOAL:.0%})"
    )
    write_json(figures, args.json)
    return 0


def measure_study(sweep: Path, settings: list[str], folder: Path) -> dict[str, Any]:
    """Launch a sweep in `folder`: wall and CPU seconds of every part, and of the whole."""
    makes_data = load_study(sweep, settings)[0].data.make is not None
    used = [*settings, f"data.root={folder / 'data'}"] if makes_data else settings
    study, _ = load_study(sweep, used)
    began_data = time.time()
    ensure_data(study)
    data_seconds = time.time() - began_data if makes_data else 0.0
    options = [word for setting in used for word in ("--set", setting)]
    command = [sys.executable, "-m", "scaling.launch", str(sweep), "--out", str(folder / "runs"), *options]
    began = time.time()
    with subprocess.Popen(command) as launcher, ProcessorTime(launcher.pid) as processor:
        code = launcher.wait()
    ended = time.time()
    if code != 0:
        raise UserError(f"{sweep}: the launcher ended with code {code}, so there is no whole study to divide")
    runs = read_runs(folder / "runs" / study.study)
    measured = _last_throughput(StudyDir(folder / "runs" / study.study)) or runs.end
    wall = {START: runs.begin - began, **runs.wall_seconds(), THROUGHPUT: measured - runs.end, REPORT: ended - measured}
    cpu = _cpu_seconds(processor, runs, (began, measured, ended))
    whole = ended - began
    parts = sorted({**wall, **cpu}, key=lambda part: -wall.get(part, 0.0))
    return {
        "study": study.study,
        "runs": len({phase.pid for phase in runs.phases}),
        "side_by_side": runs.num_places,
        "data_seconds": data_seconds,
        "wall_seconds": whole,
        "cpu_seconds": sum(cpu.values()),
        "share_beside_steps": 1 - wall[STEPS] / whole,
        "parts": {
            part: {
                "wall_seconds": wall.get(part, 0.0),
                "share": wall.get(part, 0.0) / whole,
                "cpu_seconds": cpu.get(part, 0.0),
            }
            for part in parts
        },
        "settings": {"sweep": sweep.name, "set": settings},
        "machine": describe_machine(LIBRARIES),
    }


def _last_throughput(study_dir: StudyDir) -> float | None:
    """Unix time at which the last model's throughput was measured (`launch.throughput`); None where none was."""
    try:
        return max((row.unix_time for row in read_rows(study_dir.throughput)), default=None)
    except FileNotFoundError:
        return None


def _cpu_seconds(processor: ProcessorTime, runs: Runs, edges: tuple[float, float, float]) -> dict[str, float]:
    """By part. Within a span of the log that is several parts, CPU time is divided as its wall time is. `edges` are the
    Unix times of the launcher's start, the last throughput and the end."""
    sums: dict[str, float] = defaultdict(float)
    for phase in runs.phases:
        spent = processor.of(phase.pid, phase.begin, phase.end)
        whole = sum(phase.parts.values())
        for part, seconds in phase.parts.items():
            sums[part] += spent * seconds / whole if whole > 0 else 0.0
    began, measured, ended = edges
    sums[START] = processor.of_others(runs.pids, began, runs.begin)
    sums[LAUNCHER] = processor.of_others(runs.pids, runs.begin, runs.end)
    sums[THROUGHPUT] = processor.of_others(runs.pids, runs.end, measured)
    sums[REPORT] = processor.of_others(runs.pids, measured, ended)
    return dict(sums)
