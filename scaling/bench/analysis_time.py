"""How long a person waits for an analysis, in fresh processes: reports of made-up studies and fits of many curves.

    report           `python -m analysis` of 250, 500 and 1,000 runs of ten models with 1,000 log rows each
    bare reading     the peer: the same files parsed by `json` and `pandas.read_json`, which check nothing
    many models      `python -m analysis` of 60 models at 4 sizes with 2 seeds: pairs of models grow with their square
    fits             `python -m analysis.fit` of 36 curves of 6 sizes

Time is that of the wall and of the processor, which on a busy machine tell more together; memory is the peak of the
process. Each doubling of the runs has its ratio of processor time: 2 is linear.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.bench.command import add_json, write_json
from scaling.bench.machine import describe_machine
from scaling.bench.synthetic_study import Truth, make_study
from scaling.launch.options import above_zero
from scaling.readable import plain_table
from scaling.records.study import load_plan_order, save_plan_order

NUM_RUNS, NUM_ROWS = 1_000, 1_000
NUM_MODELS, FRACTIONS = 10, (0.0625, 0.125, 0.25, 0.5, 1.0)
MANY_MODELS, FEW_FRACTIONS, FEW_SEEDS = 60, (0.03, 0.1, 0.3, 1.0), 2
NUM_CURVES, NUM_SIZES = 36, 6
LIBRARIES = ("matplotlib", "numpy", "pandas", "pyarrow", "scipy")

BARE = """
import io, json, sys
from pathlib import Path
import pandas as pd
tables = []
for folder in sorted(path.parent for path in Path(sys.argv[1]).glob("*/run.json")):
    for path in [*folder.glob("*.json"), *folder.glob("evals/*.json")]:
        json.loads(path.read_bytes())
    tables.append(pd.read_json(io.BytesIO((folder / "events.jsonl").read_bytes()), lines=True))
pd.concat(tables)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "example:\n  python -m scaling.bench analysis --runs 200 --rows 100 --json analysis.json"
    parser.add_argument(
        "--runs", type=above_zero, default=NUM_RUNS, help=f"of the largest study (default: {NUM_RUNS:,})"
    )
    parser.add_argument("--rows", type=above_zero, default=NUM_ROWS, help=f"of each run's log (default: {NUM_ROWS:,})")
    parser.add_argument(
        "--models", type=above_zero, default=MANY_MODELS, help=f"of many models (default: {MANY_MODELS})"
    )
    parser.add_argument("--curves", type=above_zero, default=NUM_CURVES, help=f"to fit (default: {NUM_CURVES})")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    figures = measure_analysis(args.runs, args.rows, args.models, args.curves)
    rows = [
        [name, f"{case['wall_seconds']:.1f}", f"{case['cpu_seconds']:.1f}", f"{case['peak_bytes'] / 1e6:.0f}"]
        for name, case in figures["cases"].items()
    ]
    print(plain_table(["analysis", "wall s", "CPU s", "peak MB"], rows))
    ratios = ", ".join(f"{ratio:.2f}" for ratio in figures["cpu_ratio_per_doubling"])
    print(f"\nCPU time for each doubling of the runs: x {ratios}")
    print(f"report beside bare reading of the same files: x {figures['cpu_ratio_to_bare_reading']:.2f} CPU time")
    print(f"a fit: {figures['cpu_seconds_per_curve']:.2f} CPU s a curve")
    write_json(figures, args.json)
    return 0


def measure_analysis(num_runs: int, num_rows: int, num_models: int, num_curves: int) -> dict[str, Any]:
    """Wall and CPU seconds and the peak of every case, with ratios and what they were measured on."""
    per_seed = NUM_MODELS * len(FRACTIONS)
    seeds = [max(1, num_runs // share // per_seed) for share in (4, 2, 1)]
    cases: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _tell(f"making {seeds[-1] * per_seed:,} runs of {num_rows:,} rows")
        whole = make_study(
            folder, name="whole", models=list(_truths(NUM_MODELS)), truths=_truths(NUM_MODELS), fractions=FRACTIONS,
            seeds=range(seeds[-1]), num_rows=num_rows, steps=10 * num_rows
        )  # fmt: skip
        reports = []
        for count in seeds:
            reports.append(f"report, {count * per_seed:,} runs")
            study = _some_seeds(whole, folder / f"seeds-{count}", count)
            cases[reports[-1]] = _measured(reports[-1], ["-m", "analysis", str(study), "--out", str(folder / "report")])
        bare = f"bare reading, {seeds[-1] * per_seed:,} runs"
        cases[bare] = _measured(bare, ["-c", BARE, str(whole)])
        many = make_study(
            folder, name="many", models=list(_truths(num_models)), truths=_truths(num_models), fractions=FEW_FRACTIONS,
            seeds=range(FEW_SEEDS)
        )  # fmt: skip
        title = f"report, {num_models} models x {len(FEW_FRACTIONS)} sizes x {FEW_SEEDS} seeds"
        cases[title] = _measured(title, ["-m", "analysis", str(many), "--out", str(folder / "report-many")])
        fits = f"fits of {num_curves} curves"
        fit = ["-m", "analysis.fit", str(_curves(folder, num_curves)), "--x", "images", "--y", "loss", "--by", "curve"]
        cases[fits] = _measured(fits, fit)
    cpu = [cases[title]["cpu_seconds"] for title in reports]
    return {
        "cases": cases,
        "cpu_ratio_per_doubling": [after / before for before, after in itertools.pairwise(cpu)],
        "cpu_ratio_to_bare_reading": cpu[-1] / cases[bare]["cpu_seconds"],
        "cpu_seconds_per_curve": cases[fits]["cpu_seconds"] / num_curves,
        "rows_per_run": num_rows,
        "machine": describe_machine(LIBRARIES),
    }


def _truths(number: int) -> dict[str, Truth]:
    """Models whose curves differ, by name."""
    return {
        f"model{place}-b/16": Truth(
            floor=0.2 + 0.25 * place / number,
            scale=0.12 + 0.1 * place / number,
            exponent=0.65,
            images_per_second=4000 / (1 + place),
            num_body_params=int(5e7 * (1 + place)),
            gflops_forward=6.0 * (1 + place),
        )
        for place in range(number)
    }


def _some_seeds(whole: Path, study: Path, count: int) -> Path:
    """A study of the first `count` seeds of `whole`, sharing its files."""
    chosen = [run_id for run_id in load_plan_order(whole) or [] if int(run_id.split("_s")[1].split("-")[0]) < count]
    for run_id in chosen:
        shutil.copytree(whole / run_id, study / run_id, copy_function=os.link)
    shutil.copy(whole / "study.yaml", study)
    save_plan_order(study, chosen)
    return study


def _curves(folder: Path, number: int) -> Path:
    """A table of curves that follow power laws with floors."""
    lines = ["curve,images,loss"]
    for curve in range(number):
        for size in range(NUM_SIZES):
            loss = 0.2 + 0.01 * curve + (1 + 0.02 * curve) * 2 ** (-0.4 * size)
            lines.append(f"{curve},{1000 * 2**size},{loss:.6f}")
    path = folder / "curves.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _measured(title: str, arguments: Sequence[str]) -> dict[str, float]:
    """One process: its wall and CPU seconds and its peak of memory."""
    _tell(title)
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise RuntimeError(f"{title} failed:\n{errors.read()[-2000:]}")
    return {
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
    }


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
