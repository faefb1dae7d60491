"""`--dry-run`: the plan as a table or JSON, with what it will cost, and nothing started."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from scaling.launch.forecast import RateBook, state_bytes, train_flops
from scaling.launch.numbers import short_count, short_flops, short_time
from scaling.launch.study_dir import PlannedRun
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.tables import plain_table


def measured_rates(out: Path) -> RateBook:
    """Rates of every finished run under the results folder, whatever its study."""
    rates = RateBook()
    for path in sorted(out.glob("*/*/result.json")):
        result = RunResult.load(path.parent)
        if result is not None and (path.parent / "run.json").exists():
            rates.add(RunPlan.load(path.parent), result.flops, result.train_seconds + result.pause_seconds)
    return rates


def describe_plan(runs: Sequence[PlannedRun], rates: RateBook) -> str:
    """The table of runs and the totals that a person wants before spending."""
    rows = [_row(run, rates) for run in runs]
    table = plain_table(
        ["run", "images", "epochs", "steps", "batch", "train compute", "weights + optimiser", "device time", "state"],
        rows,
    )
    examples = sum(run.plan.schedule.steps * run.plan.schedule.batch for run in runs)
    flops = sum(train_flops(run.plan) for run in runs)
    times = [rates.seconds(run.plan) for run in runs]
    known = [seconds for seconds in times if seconds is not None]
    total = f"{len(runs)} runs, {short_count(examples)} examples, {short_flops(flops)}"
    if len(known) == len(times):
        total += f", about {short_time(sum(known))} of device time at the rates measured so far"
    else:
        total += "; device time unknown until a first run here has measured it"
    return f"{table}\n\n{total}"


def plan_as_json(runs: Sequence[PlannedRun], rates: RateBook) -> Iterator[str]:
    """Lines of a JSON list with one object per run: the whole plan, where it stands and its forecast."""
    yield "["
    for number, run in enumerate(runs, start=1):
        facts = {
            "run_dir": str(run.run_dir),
            "standing": run.standing,
            "train_flops": train_flops(run.plan),
            "state_bytes": state_bytes(run.plan),
            "forecast_seconds": rates.seconds(run.plan),
        }
        separator = "," if number < len(runs) else ""
        yield f'{json.dumps(facts)[:-1]}, "plan": {run.plan.model_dump_json()}}}{separator}'
    yield "]"


def _row(run: PlannedRun, rates: RateBook) -> list[str]:
    plan, seconds = run.plan, rates.seconds(run.plan)
    return [
        plan.run_id,
        f"{plan.subset.num_samples:,}",
        f"{plan.schedule.epochs:.4g}",
        f"{plan.schedule.steps:,}",
        f"{plan.schedule.batch:,}",
        short_flops(train_flops(plan)),
        f"{state_bytes(plan) / 2**30:.3g} GiB",
        "?" if seconds is None else f"~{short_time(seconds)}",
        run.standing,
    ]
