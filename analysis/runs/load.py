"""Run directories to tables: one row per finished run, and one row per run that is left out, with the reason.

Nothing disappears: a run folder is either in `runs` or in `excluded`, or, as a trial of a search, in `searches`. The
tables do not depend on the order of the folders on disk or on the command line. One set of results counts once, even if
two studies hold it. Runs whose settings differ where they must not are not averaged: see `analysis.runs.conditions`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from analysis.runs.conditions import name_series
from analysis.runs.metrics import THROUGHPUT_METRIC, Metric, known_metric
from analysis.runs.naming import ModelName, parse_model_name
from analysis.runs.searches import search_table
from analysis.runs.twins import with_scores_of
from scaling.errors import UserError, printable
from scaling.records.attempts.ends import spent_energy
from scaling.records.files import canonical_json
from scaling.records.frozen_sweep import frozen_sweep
from scaling.records.result import RunResult
from scaling.records.run_plan import InputPlan, RunPlan
from scaling.records.scores.price import Price, sweep_price
from scaling.records.scores.throughput import ThroughputRow, software_of, study_rows
from scaling.records.state import Status
from scaling.records.study import RunRecord, read_study

EXCLUDED_COLUMNS = ["study", "run_id", "model", "fraction", "seed", "status", "reason"]

_COSTS = (
    "best_step",
    "stopped_early",
    "examples_seen",
    "unique_examples",
    "train_seconds",
    "pause_seconds",
    "device_hours",
    "images_per_second",
    "device",
    "num_devices",
    "precision",
    "threads",
    "attempts",
    "git_commit",
    "git_dirty",
)


@dataclass(frozen=True, slots=True)
class Records:
    """Finished runs of one or more studies, and what is not among them."""

    runs: pd.DataFrame
    """A row per finished run: plan, cost and environment; metric columns keep their names (`unseen/5shot_top1`)."""
    excluded: pd.DataFrame
    """A row per run that no number comes from: EXCLUDED_COLUMNS."""
    plans: dict[str, RunPlan]
    """Plans of the finished runs by run_id."""
    models: dict[str, ModelName]
    """Parsed names of all series in `runs` and of all models planned."""
    run_dirs: dict[str, Path] = field(default_factory=dict)
    """Folders of the finished runs by run_id."""
    suffix: str = ""
    """Added to file names when the records of several conditions are drawn apart."""
    questions: tuple[str, ...] = ()
    """What the studies want to know, as their sweeps say."""
    searches: pd.DataFrame = field(default_factory=pd.DataFrame)
    """A row per trial of a search for hyper-parameters; see `analysis.runs.searches`."""
    throughput: tuple[ThroughputRow, ...] = ()
    """What was measured apart from training; see `analysis.runs.speeds`."""
    declared: dict[str, Metric] = field(default_factory=dict)
    """Metrics that the user described, by name; the names of others say what they are."""

    def metric(self, name: str) -> Metric:
        """Direction, bounds and print of a metric."""
        return self.declared.get(name) or known_metric(name)

    @property
    def eval_order(self) -> list[str]:
        """Names of the evaluations as the first run planned them; empty for runs without a plan."""
        plan = self.plans.get(str(self.runs["run_id"].iloc[0]))
        return [evaluation.name for evaluation in plan.evals] if plan else []

    def of_condition(self, condition: str, suffix: str) -> "Records":
        """The finished runs of one condition; see `analysis.runs.conditions`."""
        runs = self.runs[self.runs["condition"] == condition].reset_index(drop=True)
        return replace(self, runs=runs, suffix=suffix)


def load_records(study_dirs: Sequence[Path], declared: Metric | None = None) -> Records:
    """Read every study; UserError when a folder is no study, or no run is finished anywhere. `declared` is what the
    user says about one metric."""
    # A folder under two spellings is one study; the first spelling stands in messages.
    folders = list({folder.resolve(): folder for folder in reversed(study_dirs)}.values())[::-1]
    studies = [read_study(folder) for folder in folders]
    records = sorted(
        (record for study in studies for record in study.runs if record.plan.trial is None),
        key=lambda record: (record.plan.study, record.plan.run_id, str(record.run_dir)),
    )
    excluded: list[tuple[object, ...]] = [
        (error.path.parent.parent.name, error.path.parent.name, "", math.nan, -1, "damaged", error.problem)
        for study in studies
        for error in study.damaged
    ]
    plans: dict[str, RunPlan] = {}
    run_dirs: dict[str, Path] = {}
    used: dict[str, RunRecord] = {}
    sweeps = {folder: frozen_sweep(folder) for folder in sorted(folders)}
    prices = {folder: sweep_price(sweep) for folder, sweep in sweeps.items()}
    for record in records:
        plan = record.plan
        status, reason = _standing(record)
        if not reason:
            first = used.setdefault(plan.identity, record)
            if first is not record:
                used[plan.identity], told = with_scores_of(first, record)
                named = f"{first.run_dir.parent.name}/{first.run_dir.name}"
                status, reason = "duplicate", f"same identity as {named}, which is used{told}"
        if reason:
            excluded.append((plan.study, plan.run_id, plan.model.name, plan.subset.fraction, plan.seed, status, reason))
    rows: list[dict[str, object]] = []
    for record in used.values():
        assert record.result is not None
        rows.append(_run_row(record, record.result, prices[record.run_dir.parent]))
        plans[record.plan.run_id] = record.plan
        run_dirs[record.plan.run_id] = record.run_dir
    if not rows:
        # A run may be done and left out all the same: then why is said too.
        ends = [f"{entry[5]} and {entry[6]}" if entry[5] == Status.DONE else str(entry[5]) for entry in excluded]
        standing = ", ".join(f"{number} {end}" for end, number in pd.Series(ends).value_counts().items())
        standing = standing or "trials of a search alone"
        raise UserError(
            f"{', '.join(map(str, study_dirs))}: no finished run to report ({standing}); "
            "run python -m scaling.launch again, or look with python -m scaling.status"
        )
    _refuse_two_counts(list(plans.values()))
    models = {
        record.plan.model.name: parse_model_name(
            record.plan.model.name, record.plan.model.family, record.plan.model.num_body_params
        )
        for record in records
    }
    table = pd.DataFrame(excluded, columns=EXCLUDED_COLUMNS)
    known = {declared.name: declared} if declared else {}
    found = assemble(pd.DataFrame(rows), table, models, plans, run_dirs, declared=known)
    searches = search_table(studies)
    return replace(
        found,
        searches=searches,
        questions=tuple(filter(None, map(_question, sweeps.values()))),
        throughput=study_rows(folders),
    )


def _refuse_two_counts(plans: Sequence[RunPlan]) -> None:
    """UserError when two runs count one model differently: their compute could not be compared."""
    seen: dict[str, RunPlan] = {}
    for plan in plans:
        model = plan.model
        first = seen.setdefault(canonical_json([model.name, model.image_size, model.num_classes, model.options]), plan)
        counts = [(one.model.flops_train_per_image, one.model.flops_forward_per_image) for one in (first, plan)]
        if counts[0] != counts[1]:
            names = [f"{one.study}/{one.run_id}" for one in (first, plan)]
            raise UserError(
                f"{model.name} is counted as {counts[0][0]:.4g} training FLOPs per image in {names[0]} and as "
                f"{counts[1][0]:.4g} in {names[1]}; launch their studies again with this version, which counts anew "
                "and trains nothing that is trained"
            )


def _question(sweep: Mapping[str, object]) -> str:
    """The sweep's `question`; empty when it asks none."""
    question = sweep.get("question")
    return printable(" ".join(question.split())) if isinstance(question, str) else ""


def assemble(
    runs: pd.DataFrame,
    excluded: pd.DataFrame,
    models: dict[str, ModelName],
    plans: dict[str, RunPlan],
    run_dirs: dict[str, Path],
    *,
    declared: dict[str, Metric] | None = None,
) -> Records:
    """Name series and conditions, and put the rows in their order."""
    runs, series = name_series(runs, models)
    named = models | series
    keys = ["condition", "num_images", "seed", "study", "run_id"]
    places = list(zip(map(named.__getitem__, runs["model"]), *(runs[key] for key in keys), strict=True))
    order = sorted(range(len(runs)), key=places.__getitem__)
    return Records(runs.iloc[order].reset_index(drop=True), excluded, plans, named, run_dirs, declared=declared or {})


def _standing(record: RunRecord) -> tuple[str, str]:
    """Status and, when the run gives no numbers, the reason."""
    standing, state, plan = record.standing, record.state, record.plan
    if not record.in_plan:
        return standing.status, "not in the study's current plan (plan.json)"
    if plan.serves:
        return standing.status, f"made for {plan.serves}, and no point of its own"
    if standing.status is Status.DONE:
        return "done", ""
    at = f"at step {state.step} of {plan.schedule.steps}, attempt {state.attempt}"
    told = f": {standing.reason}" if standing.reason else ""
    reasons = {
        Status.PENDING: "never started",
        Status.QUEUED: "waits in a scheduler's queue",
        Status.RUNNING: f"not finished: running {at}",
        Status.PREEMPTED: f"not finished: pre-empted {at}{told}",
        Status.CANCELLED: f"cancelled {at}",
        Status.PRUNED: f"stopped by the search {at}",
        Status.FAILED: f"failed {at}{told or ': no message'}",
    }
    return standing.status, reasons[standing.status]


def _run_row(record: RunRecord, result: RunResult, price: Price | None) -> dict[str, object]:
    plan = record.plan
    row: dict[str, object] = {
        "study": plan.study,
        "run_id": plan.run_id,
        "model": plan.model.name,
        "family": plan.model.family,
        "fraction": plan.subset.fraction,
        "num_images": plan.subset.num_samples,
        "seed": plan.seed,
        "subset_seed": plan.subset.seed,
        "image_size": plan.model.image_size,
        "num_params": plan.model.num_params,
        "flops_forward_per_image": plan.model.flops_forward_per_image,
        "data": Path(plan.train.manifest).parent.name,
        "data_digest": plan.train.digest,
        "val_digest": plan.val.digest,
        "label_spread": math.nan if plan.subset.label_spread is None else plan.subset.label_spread,
        "exclusion": plan.subset.exclusion_digest[:8] or "none",
        "protocol": plan.schedule.protocol,
        "batch": plan.schedule.batch,
        "steps": plan.schedule.steps,
        "epochs": plan.schedule.epochs,
        "warmup_steps": plan.schedule.warmup_steps,
        "decay": plan.schedule.decay,
        **plan.recipe.model_dump(exclude={"precision"}),
        "drop_path": plan.model.drop_path,
        "options": canonical_json(plan.model.options),
        "permute": _permutation(plan.input),
        "evals": _evaluations(plan),
    }
    row |= {name: getattr(result, name) for name in _COSTS}
    row["flops"] = plan.train_flops(result.examples_seen)
    row["money"] = price.of_hours(result.device_hours) if price else math.nan
    row["currency"] = price.currency if price else ""
    joules = spent_energy(record.standing.ends, result.attempts)
    row["energy_joules"] = math.nan if joules is None else joules
    row["changes"] = "; ".join(result.changes)
    row["harness_version"] = plan.harness.version
    row["torch"] = result.packages.get("torch", "")
    speed = record.evaluations.get(THROUGHPUT_METRIC.partition("/")[0])
    row["throughput_device"] = speed.device if speed else ""
    row["throughput_precision"] = speed.precision if speed else ""
    row["throughput_threads"] = speed.threads if speed else 0
    row["throughput_software"] = software_of(speed.packages, speed.version) if speed else ""
    return row | {name if "/" in name else f"train/{name}": value for name, value in sorted(record.metrics.items())}


def _permutation(plan: InputPlan) -> str:
    """With the patch after a slash, as in a model's name."""
    return f"{plan.permute}/{plan.patch_size}" if plan.patch_size else plan.permute


def _evaluations(plan: RunPlan) -> str:
    """What was measured on which data, without where the data lay; of a suite, what its members measured."""
    found: dict[str, list[object]] = {}
    for one in plan.evals:
        sources = {role: source.digest for role, source in one.sources.items()}
        version = [one.version] if one.version != 1 else []
        found[one.name] = [one.defining_settings(), sources, *version]
    suites: dict[str, dict[str, str]] = {}
    for one in plan.evals:
        if one.suite is not None and one.suite.name not in found:
            suites.setdefault(one.suite.name, {})[one.suite.member] = one.digest()
    return canonical_json(found | {name: [members, {}] for name, members in suites.items()})
