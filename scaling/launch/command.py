"""`python -m scaling.launch SWEEP.yaml`: plan a study, run what is missing, draw the report."""

import logging
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from scaling.errors import UserError
from scaling.launch import leave
from scaling.launch.backends.base import Backend, Resources, check_choice, make_backend
from scaling.launch.backends.gpus import is_slow_here
from scaling.launch.backends.slurm.shape import check_overrides
from scaling.launch.cancel import cancel_runs
from scaling.launch.dry_run import describe_plan, plan_as_json
from scaling.launch.ensure_data import ensure_data
from scaling.launch.graph.beginning import Beginning
from scaling.launch.graph.finetuning import finetuning_follow_up
from scaling.launch.graph.study_graph import FollowUp, StudyGraph
from scaling.launch.options import read_options
from scaling.launch.price.rates import measured_rates
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.launch.throughput import measure_throughput
from scaling.launch.watch import Watch
from scaling.models.cpu_arithmetic import SLOW_BF16
from scaling.plan.check_data import warnings_once_planned
from scaling.plan.finetune.planner import FineTunePlanner
from scaling.plan.planner import Planner
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import forgive
from scaling.records.files import check_folder
from scaling.records.ownership.stop_request import clear_stop
from scaling.records.run_plan import RunPlan
from scaling.records.scores.price import Price
from scaling.records.state import Status
from scaling.spec.finetune_recipe import finetune_recipe_names, finetune_recipe_text
from scaling.spec.recipe import recipe_names, recipe_text
from scaling.spec.schema import schema_text
from scaling.spec.study import Study, load_study

SAID_OF = {
    "done": "done already",
    "pending": "to train",
    "preempted": "to continue",
    "queued": "queued already",
    "running": "running already",
    "done, to be scored": "to score",
    "done, scoring": "being scored already",
    "failed": "failed earlier (start them again with --retry-failed)",
    "done, scoring failed": "failed in scoring (start them again with --retry-failed)",
    "cancelled": "cancelled (start them again with --retry-failed)",
    "pruned": "stopped by a search",
}
"""What is said of runs that stand so (`Standing.told`) before anything is started."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    args = read_options(argv)
    # From the first moment on: what asks a launcher to leave cannot know how far it has come.
    leave.listen()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.print_schema:
        print(schema_text(), end="")
        return 0
    if args.recipes:
        _print_recipes()
        return 0
    if args.sweep is None:
        raise UserError("name a sweep file, for example: python -m scaling.launch sweeps/quickstart.yaml")
    study, document = load_study(args.sweep, [*args.set, *([f"launch.backend={args.backend}"] if args.backend else [])])
    study_dir: Path = args.out / study.study
    if args.cancel:
        return cancel_runs(study_dir, args.cancel, make_backend(study.launch))
    check_choice(study.launch)
    check_folder(study_dir)
    ensure_data(study)
    planner = Planner(study, document)
    finetuning = FineTunePlanner(planner, study, document)

    def after_all(plans: Sequence[RunPlan]) -> list[FollowUp]:
        return [finetuning_follow_up(job) for job in finetuning.plan(plans)]

    with warnings_once_planned():
        beginning = Beginning.of(study, document, planner)
        foreseen = beginning.foresee(study_dir)
        follow_ups = after_all([run.plan for run in foreseen])
    check_overrides(study.launch, document, [run.plan for run in foreseen])
    if is_slow_here(study.launch, [run.plan for run in foreseen]):
        print(f"warning: {SLOW_BF16}", file=sys.stderr)
    if args.dry_run:
        return _show_plan(foreseen, follow_ups, args.out, price_of(study), as_json=args.json)

    planner.refuse_declared_data()
    backend = make_backend(study.launch)
    backend.check(Resources.of(study.launch))
    write_study(study_dir, document, beginning.runs)
    if args.retry_failed:
        for run in beginning.foresee(study_dir):
            _retry(run)
    graph = StudyGraph(
        study_dir,
        find_standings(study_dir, beginning.runs),
        beginning.follow_ups,
        after_each=lambda plan: after_all([plan]),
        adopt=_retry_failed if args.retry_failed else lambda run: run,
    )
    _announce(study_dir, beginning.foresee(study_dir), len(graph.waiting))
    cap = args.max_parallel or _max_parallel(study, study.launch.backend)
    watch = Watch(backend, graph, study_dir, cap=cap, retries=study.launch.retries)
    if args.detach:
        return _detach(backend, watch, graph, study_dir)
    if any(run.standing.is_alive or not run.standing.has_ended for run in graph.runs()):
        watch.run()
    for note in graph.notes():
        print(note, file=sys.stderr)
    ended = find_standings(study_dir, [run.plan for run in graph.runs()])
    if args.json:
        _print_lines(plan_as_json(ended, measured_rates(args.out, ended), price=price_of(study)))
    is_answered = beginning.search is None or beginning.search.is_answered([run.plan for run in ended])
    told = [run for run in ended if run.plan.run_id not in graph.answered]
    if study.launch.throughput and any(run.standing.is_finished for run in told):
        measure_throughput(study_dir, backend)
    codes = [_tell_open_runs(told), 0 if is_answered else 1]
    if args.report and any(run.standing.is_finished and run.plan.trial is None for run in told):
        codes.append(_report(study_dir, quiet=args.json))
    return max(codes)


def _max_parallel(study: Study, backend: str) -> int | None:
    """Runs at a time, as the section of the back end says."""
    section = study.launch.section(backend)
    found = section.get("max_parallel") if isinstance(section, dict) else getattr(section, "max_parallel", None)
    return found if found is None else int(found)


def _print_recipes() -> None:
    texts = [(name, recipe_text(name)) for name in recipe_names()]
    texts += [(f"{name} (for evals: finetune)", finetune_recipe_text(name)) for name in finetune_recipe_names()]
    print("\n\n".join(f"# {name}\n{text.rstrip()}" for name, text in texts))


def price_of(study: Study) -> Price | None:
    """What a device-hour costs; None where the sweep does not say."""
    return Price.of(study.launch.price_per_device_hour, study.launch.currency)


def _show_plan(
    runs: Sequence[PlannedRun], follow_ups: Sequence[FollowUp], out: Path, price: Price | None, *, as_json: bool
) -> int:
    rates = measured_rates(out, runs)
    table = plan_as_json(runs, rates, follow_ups, price=price) if as_json else ()
    _print_lines(table or [describe_plan(runs, rates, follow_ups, price=price)])
    return 0


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _detach(backend: Backend, watch: Watch, graph: StudyGraph, study_dir: Path) -> int:
    """Submit what is to be done and leave."""
    count = watch.submit_all()
    backend.close(detach=True)
    then = "waits for them and draws the report"
    if graph.waiting:
        names = ", ".join(one.name for one in graph.waiting[:3]) + (", …" if len(graph.waiting) > 3 else "")
        then = f"waits for them, starts what follows ({names}) and draws the report"
    print(
        f"{count} runs submitted; follow them with: python -m scaling.status {study_dir} --watch\n"
        f"the same command without --detach {then}; with --cancel RUN it stops one",
        file=sys.stderr,
    )
    return 0


def _retry_failed(run: PlannedRun) -> PlannedRun:
    """A run that was planned from what others found, asked for again; one that diverged has given its answer."""
    last = run.standing.ends.last
    return run if last is not None and last.cause is Cause.DIVERGED else _retry(run)


def _retry(run: PlannedRun) -> PlannedRun:
    """A run that failed or was cancelled as one that continues from its last checkpoint."""
    standing = run.standing
    if standing.is_alive or not standing.has_ended or standing.is_finished or standing.status is Status.PRUNED:
        return run
    clear_stop(run.run_dir)
    forgive(run.run_dir)
    return run.look_again()


def _announce(study_dir: Path, runs: Sequence[PlannedRun], num_waiting: int) -> None:
    """One line on what is there and what will be done."""
    told = [run.standing.told for run in runs]
    parts = [f"{told.count(words)} {said}" for words, said in SAID_OF.items() if words in told]
    num_trials = sum(run.plan.trial is not None for run in runs)
    searched = f" ({num_trials} of them trials of its search)" if num_trials else ""
    print(f"{study_dir}: {len(runs)} runs{searched}: {', '.join(parts)}", file=sys.stderr)
    if num_waiting:
        print(f"{num_waiting} follow-ups will be planned from what these runs find", file=sys.stderr)
    elif all(run.standing.is_finished or run.standing.status is Status.PRUNED for run in runs):
        print("nothing to train: every run of this plan has its result", file=sys.stderr)


def _tell_open_runs(runs: Sequence[PlannedRun]) -> int:
    """Say which runs have no result and why; the exit code of that."""
    open_runs = [run for run in runs if not run.standing.is_finished]
    for run in open_runs:
        has_failed = run.standing.status is Status.FAILED or run.standing.evaluation_failed
        said = "failed" if has_failed else f"not finished, {run.standing.told}"
        print(run.complaint(said), file=sys.stderr)
    return 1 if open_runs else 0


def _report(study_dir: Path, *, quiet: bool) -> int:
    """Analyse in a process of its own, which no library of training burdens; 1 when that failed."""
    sys.stdout.flush()
    target = subprocess.DEVNULL if quiet else None
    analysis = subprocess.run([sys.executable, "-m", "analysis", str(study_dir)], stdout=target, check=False)
    return 1 if analysis.returncode else 0
