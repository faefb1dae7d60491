"""`--dry-run`: the plan as a table or JSON, with what it will cost, and nothing started."""

import json
from collections.abc import Iterator, Sequence

from scaling.launch.graph.study_graph import FollowUp
from scaling.launch.price.forecast import RateBook, Work, papers_flops, state_bytes, train_flops
from scaling.launch.study_dir import PlannedRun
from scaling.plan.search.searches import UNCHOSEN
from scaling.readable import count_text, plain_table, share_text, short_flops, short_time
from scaling.records.scores.price import Price
from scaling.records.state import Status

HEADERS = ["run", "images", "epochs", "steps", "batch", "train compute", "weights + optimiser", "time left", "state"]


def describe_plan(
    runs: Sequence[PlannedRun], rates: RateBook, follow_ups: Sequence[FollowUp] = (), *, price: Price | None = None
) -> str:
    """The table of runs and the totals that a person wants before spending."""
    parts = [plain_table(HEADERS, [_row(run, rates) for run in runs]), _scoring(runs)]
    trials, finals = split_trials(runs)
    if trials:
        parts += [f"trials of the search: {_total(trials, rates, price)}{_unchosen(trials)}{_stopping(trials)}"]
        parts += [f"final runs: {_total(finals, rates, price)}{_unchosen(finals)}"] if finals else []
        parts += [f"together: {_total(runs, rates, price)}"]
    else:
        parts += [_total(runs, rates, price)]
    parts[-1] += f"\n{_check_by_rule(runs)}"
    return "\n\n".join([*parts, *_following(follow_ups, rates, price)])


def split_trials(runs: Sequence[PlannedRun]) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """The trials of a search, and the other runs."""
    return [run for run in runs if run.plan.trial is not None], [run for run in runs if run.plan.trial is None]


def _following(follow_ups: Sequence[FollowUp], rates: RateBook, price: Price | None) -> list[str]:
    """The price of what will be planned from what these runs find, a line for all follow-ups of one evaluation."""
    groups: dict[str, list[FollowUp]] = {}
    for one in follow_ups:
        groups.setdefault(one.name.partition(" of ")[0], []).append(one)
    lines = []
    for name, group in groups.items():
        plans = [plan for one in group for plan in one.foreseen]
        times = [rates.seconds(Work(plan)) for plan in plans]
        known = [s * plan.engine.num_devices for s, plan in zip(times, plans, strict=True) if s is not None]
        steps = sorted({plan.schedule.steps for plan in plans})
        is_known = len(known) == len(plans)
        time = f", about {short_time(sum(known))} of device time{_money(price, sum(known))}" if is_known else ""
        lines.append(
            f"{name}: {len(plans)} further runs after {len(group)} of these ("
            f"{' or '.join(f'{count:,}' for count in steps)} steps of batch "
            f"{' or '.join(str(batch) for batch in sorted({plan.schedule.batch for plan in plans}))} at "
            f"{' or '.join(str(size) for size in sorted({plan.model.image_size for plan in plans}))} px), "
            f"{short_flops(sum(map(train_flops, plans)))}{time}"
        )
    return ["\n".join(lines)] if lines else []


def plan_as_json(
    runs: Sequence[PlannedRun], rates: RateBook, follow_ups: Sequence[FollowUp] = (), *, price: Price | None = None
) -> Iterator[str]:
    """Lines of a JSON list with one object per run: the whole plan, where it stands, its forecast and what follows."""
    after: dict[str, list[FollowUp]] = {}
    for one in follow_ups:
        after.setdefault(one.after[0], []).append(one)
    yield "["
    for number, run in enumerate(runs, start=1):
        seconds = rates.seconds(work_left(run))
        device_hours = None if seconds is None else seconds * run.plan.engine.num_devices / 3600
        facts = {
            "run_dir": str(run.run_dir),
            "standing": run.standing.told,
            "reason": run.standing.reason,
            "train_flops": train_flops(run.plan),
            "state_bytes": state_bytes(run.plan),
            "papers_flops": papers_flops(run.plan),
            "forecast_seconds": seconds,
            "forecast_money": price.of_hours(device_hours) if price and device_hours is not None else None,
            "spent_money": price.of_hours(run.standing.result.device_hours) if price and run.standing.result else None,
            "currency": price.currency if price else None,
            "follow_ups": [
                {
                    "name": one.name,
                    "runs": len(one.foreseen),
                    "train_flops": sum(map(train_flops, one.foreseen)),
                }
                for one in after.get(run.plan.run_id, ())
            ],
            "is_chosen": not run.plan.run_id.endswith(UNCHOSEN),
        }
        separator = "," if number < len(runs) else ""
        yield f'{json.dumps(facts)[:-1]}, "plan": {run.plan.model_dump_json()}}}{separator}'
    yield "]"


def work_left(run: PlannedRun) -> Work:
    """What is still to be done of a run."""
    standing = run.standing
    if standing.status is Status.DONE:
        return Work(run.plan, 0.0, standing.missing_evals)
    return Work(run.plan, max(0.0, 1 - standing.state.step / run.plan.schedule.steps))


def _row(run: PlannedRun, rates: RateBook) -> list[str]:
    plan, seconds = run.plan, rates.seconds(work_left(run))
    return [
        plan.run_id,
        f"{plan.subset.num_samples:,}",
        f"{plan.schedule.epochs:.4g}",
        f"{plan.schedule.steps:,}",
        f"{plan.schedule.batch:,}",
        short_flops(train_flops(plan)),
        f"{state_bytes(plan) / 2**30:.3g} GiB",
        "-" if run.standing.is_finished or _is_stopped(run) else "?" if seconds is None else f"~{short_time(seconds)}",
        "to be chosen" if plan.run_id.endswith(UNCHOSEN) else run.standing.told,
    ]


def _unchosen(runs: Sequence[PlannedRun]) -> str:
    """That some values are still to be found."""
    waiting = sum(run.plan.run_id.endswith(UNCHOSEN) for run in runs)
    return f"; {waiting} of them wait for what the search finds, and cost at most this" if waiting else ""


def _stopping(trials: Sequence[PlannedRun]) -> str:
    """That some trials will be stopped early."""
    is_sure = all(run.standing.has_ended for run in trials) or not any(
        run.plan.trial.rungs for run in trials if run.plan.trial
    )
    return "" if is_sure else "; some of them will be stopped early, so they cost at most this"


def _scoring(runs: Sequence[PlannedRun]) -> str:
    """How runs are trained and scored, as far as all of them agree."""
    plan = runs[0].plan
    losses = sorted({run.plan.recipe.loss for run in runs})
    evals = ", ".join(dict.fromkeys(one.name for run in runs for one in run.plan.evals)) or "upstream validation alone"
    spread = max(run.plan.subset.label_spread or 0.0 for run in runs)
    unfair = f"label frequencies vary along the shards {spread:.3g} times as much as by chance" if spread else ""
    return (
        f"{plan.train.num_classes:,} {plan.train.label_type}-label classes, {' and '.join(losses)} loss; "
        f"scored by: {evals}" + (f"\nsubsets are no fair samples: {unfair}" if unfair else "")
    )


def _money(price: Price | None, device_seconds: float) -> str:
    """`, 12.40 USD at 2.5 USD a device-hour`; empty without a price."""
    return f", {price.text(device_seconds / 3600)}" if price else ""


def _check_by_rule(runs: Sequence[PlannedRun]) -> str:
    """The count of FLOPs beside the rule that the papers' own figures follow."""
    counted = sum(train_flops(run.plan) for run in runs)
    by_rule = sum(papers_flops(run.plan) for run in runs)
    return (
        f"check of the compute: the papers' rule 6 x GMACs x images gives {short_flops(by_rule)}, "
        f"{share_text(abs(by_rule / counted - 1))} {'more' if by_rule >= counted else 'less'} than counted"
    )


def _is_stopped(run: PlannedRun) -> bool:
    """Whether a search stopped this trial for good."""
    return run.standing.status is Status.PRUNED and run.standing.has_ended


def _total(runs: Sequence[PlannedRun], rates: RateBook, price: Price | None) -> str:
    """What all runs cost, and what of it is left."""
    examples = sum(run.plan.schedule.steps * run.plan.schedule.batch for run in runs)
    flops = sum(train_flops(run.plan) for run in runs)
    stopped = [run for run in runs if _is_stopped(run)]
    todo = [run for run in runs if not run.standing.is_finished and not _is_stopped(run)]
    total = f"{len(runs)} runs, {count_text(examples)} examples, {short_flops(flops)}"
    num_done = len(runs) - len(todo) - len(stopped)
    if num_done:
        done = [run.standing.result.device_hours for run in runs if run.standing.result and run.standing.is_finished]
        spent = f", for {price.text(sum(done))}" if price else ""
        total += f"; {num_done} of them done{spent}"
    if stopped:
        total += f"; {len(stopped)} of them stopped by the search"
    if not todo:
        return total
    times = [rates.seconds(work_left(run)) for run in todo]
    hours = [s * run.plan.engine.num_devices for s, run in zip(times, todo, strict=True) if s is not None]
    if len(hours) < len(todo):
        return total + "; device time unknown until a first run here has measured it"
    left = "" if len(todo) == len(runs) else " left"
    return (
        f"{total}, about {short_time(sum(hours))} of device time{left} on {rates.device} at the rates measured so far"
        f"{_money(price, sum(hours))}"
    )
