"""`python -m scaling.launch SWEEP.yaml`: plan a study, run what is missing, draw the report."""

import argparse
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

from scaling.errors import UserError
from scaling.launch.backends.base import backend_names, make_backend
from scaling.launch.dry_run import describe_plan, measured_rates, plan_as_json
from scaling.launch.ensure_data import ensure_data
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.launch.watch import Watch
from scaling.plan.planner import Planner
from scaling.records.ends import forgive
from scaling.records.exit_codes import LEAVE_SIGNALS
from scaling.records.state import RunState
from scaling.records.stop_request import clear_stop
from scaling.spec.recipe import recipe_names, recipe_text
from scaling.spec.study import Study, load_study

EPILOG = """\
example:
  python -m scaling.launch sweeps/quickstart.yaml
  python -m scaling.launch sweeps/quickstart.yaml --dry-run
  python -m scaling.launch sweeps/quickstart.yaml --set grid.seed=[0,1,2] --max-parallel 1

Running the same command again continues the study: finished runs are kept, killed ones go on from their last
checkpoint, failed ones are tried again with --retry-failed. Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint of every
running run.
exit code: 0 all runs done, 1 some runs failed, 2 bad input, 130 stopped.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.print_schema:
        print(json.dumps(Study.model_json_schema(), indent=2))
        return 0
    if args.recipes:
        print("\n\n".join(f"# {name}\n{recipe_text(name).rstrip()}" for name in recipe_names()))
        return 0
    if args.sweep is None:
        raise UserError("name a sweep file, for example: python -m scaling.launch sweeps/quickstart.yaml")
    options = list(args.set)
    options += [f"launch.backend={args.backend}"] if args.backend else []
    options += [f"launch.local.max_parallel={args.max_parallel}"] if args.max_parallel else []
    study, document = load_study(args.sweep, options)
    study_dir = args.out / study.study
    backend = make_backend(study.launch)
    ensure_data(study)
    planner = Planner(study, document)
    plans = planner.plan()
    if args.dry_run:
        return _show_plan(find_standings(study_dir, plans), args.out, as_json=args.json)

    planner.refuse_declared_data()
    write_study(study_dir, document, plans)
    runs = find_standings(study_dir, plans)
    if args.retry_failed:
        runs = [_forgive(run) for run in runs]
    _announce(study_dir, runs)
    todo = [run for run in runs if run.standing not in ("done", "failed")]
    for number in LEAVE_SIGNALS:
        signal.signal(number, _interrupt)
    if todo:
        Watch(backend, runs, study.launch.retries).run()
    ended = find_standings(study_dir, plans)
    if args.json:
        _print_lines(plan_as_json(ended, measured_rates(args.out)))
    return _report(study_dir, ended, quiet=args.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.launch",
        description="Plan every run of a study, train what is missing, score it and draw the report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, nargs="?", metavar="SWEEP.yaml", help="the study")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print every planned run and its cost, train nothing (built-in data that is missing is made)",
    )
    parser.add_argument("--json", action="store_true", help="print the plan and where each run stands as JSON")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value of the sweep"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="RUNS", help="results folder (default: runs)")
    parser.add_argument("--backend", choices=backend_names(), help="where to run (default: the sweep's launch.backend)")
    parser.add_argument("--max-parallel", type=int, metavar="N", help="at most this many runs at a time")
    parser.add_argument("--retry-failed", action="store_true", help="start runs again that ended with an error")
    parser.add_argument("--recipes", action="store_true", help=f"print the named recipes: {', '.join(recipe_names())}")
    parser.add_argument("--print-schema", action="store_true", help="print the JSON schema of sweep files and exit")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A scheduler's request to leave is answered as Ctrl-C is."""
    raise KeyboardInterrupt(signal.Signals(number).name)


def _show_plan(runs: Sequence[PlannedRun], out: Path, *, as_json: bool) -> int:
    rates = measured_rates(out)
    _print_lines(plan_as_json(runs, rates) if as_json else [describe_plan(runs, rates)])
    return 0


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _forgive(run: PlannedRun) -> PlannedRun:
    """A failed run as one that goes on from its last checkpoint."""
    if run.standing != "failed":
        return run
    clear_stop(run.run_dir)
    forgive(run.run_dir)
    return PlannedRun(run.run_dir, run.plan, "resume", RunState.load(run.run_dir))


def _announce(study_dir: Path, runs: Sequence[PlannedRun]) -> None:
    """One line on what is there and what will be done."""
    words = {
        "done": "done already",
        "pending": "to train",
        "resume": "to continue",
        "evaluate": "to score again",
        "running": "being trained by another process",
        "failed": "failed earlier (start them again with --retry-failed)",
    }
    counts = {standing: sum(run.standing == standing for run in runs) for standing in words}
    parts = [f"{count} {words[standing]}" for standing, count in counts.items() if count]
    print(f"{study_dir}: {len(runs)} runs: {', '.join(parts)}", file=sys.stderr)
    if counts["done"] == len(runs):
        print("nothing to train: every run of this plan has its result", file=sys.stderr)


def _report(study_dir: Path, runs: Sequence[PlannedRun], *, quiet: bool) -> int:
    """Analyse in a process of its own and say what failed; the exit code of the whole launch."""
    failed = [run for run in runs if run.standing == "failed"]
    unfinished = [run for run in runs if run.standing not in ("failed", "done")]
    for run in failed:
        print(f"failed: {run.plan.run_id}: {run.state.error}  (log: {run.run_dir / 'log.txt'})", file=sys.stderr)
    for run in unfinished:
        print(f"not finished: {run.plan.run_id}: {run.standing}", file=sys.stderr)
    if any(run.standing == "done" for run in runs):
        sys.stdout.flush()
        target = subprocess.DEVNULL if quiet else None
        analysis = subprocess.run([sys.executable, "-m", "analysis", str(study_dir)], stdout=target, check=False)
        if analysis.returncode != 0:
            return 1
    return 1 if failed or unfinished else 0
