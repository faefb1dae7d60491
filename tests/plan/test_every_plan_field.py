"""Every field of a run's plan is in its identity, or in a list of exceptions with the reason why it may differ."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from scaling.records.identity import identity_of
from scaling.records.reading import RecordError
from scaling.records.run_plan import DevPlan, EvalPlan, RunPlan, SourcePlan, StartPlan
from scaling.records.scores.search_plan import ChoicePlan, TrialPlan
from tests.support.run_plans import run_plan

ROUNDINGS = "changes numbers by roundings only, as devices do (tests/train/step/test_execution.py, test_two_processes)"
PLACE = "where data was, not what it is: the digest beside it names the content"
LATER = "what is asked of the run or logged, after or beside training; result and evaluations have records of their own"
DERIVED = "follows from fields that are in the identity"

EXCEPTIONS = {
    "run_schema": "the form of the file",
    "study": "a name for people",
    "run_id": DERIVED,
    "identity": "is the identity",
    "model.num_params": DERIVED,
    "model.num_body_params": DERIVED,
    "model.flops_forward_per_image": DERIVED,
    "model.flops_train_per_image": DERIVED,
    **{f"{source}.{field}": PLACE for source in ("train", "val") for field in ("manifest", "access")},
    "subset.fraction": "the digest beside it names the samples",
    "subset.exclude": PLACE,
    "subset.label_spread": DERIVED,
    "schedule.protocol": "how the steps were derived; the steps are in",
    "schedule.epochs": DERIVED,
    "intervals.log_steps": LATER,
    "intervals.checkpoint_steps": "a resumed run ends bit for bit like an unbroken one (tests/train/test_real_runs.py)",
    "intervals.keep_checkpoints": LATER,
    "engine.num_devices": ROUNDINGS + "; in, where batching_counts says so",
    "engine.micro_batch": ROUNDINGS + "; in, where batching_counts says so",
    "engine.auto_micro_batch": ROUNDINGS + "; refused, where the micro-batch counts",
    "engine.batching_counts": "says which fields of the engine are in",
    "engine.zero_stage": ROUNDINGS,
    "engine.overlap_comm": ROUNDINGS,
    "engine.activation_checkpointing": ROUNDINGS,
    "engine.channels_last": ROUNDINGS,
    "engine.compile": ROUNDINGS,
    "engine.deterministic": ROUNDINGS,
    "engine.reproduce": "only says what happens where an execution differs: no number depends on it",
    "engine.trackers": LATER,
    "engine.non_finite": "a run that stops has no result to confuse with that of one that skipped",
    "engine.max_corrupt": "the rule by which others stand in is fixed, so runs that end are alike whatever was allowed",
    "evals": LATER,
    "harness": "the code that planned; what trained is recorded by each attempt",
    "start": "its digest is in: test_the_weights_to_start_from_are_in_by_their_digest",
    "serves": "a name for people",
    "trial": "what a run is compared with afterwards; its values are in",
    "choice": "where the run's values come from; the values are in",
}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Paths of all fields that hold no further model of their own."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = field.annotation
        if path in EXCEPTIONS or not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            yield path
        else:
            yield from leaves(inner, f"{path}.")


def other_value(annotation: Any, value: Any) -> Any:
    """Another value of the same kind."""
    if annotation == DevPlan | None:
        return DevPlan(num_samples=1, seed=0, digest="d")
    origin = get_origin(annotation)
    if origin is Annotated:
        return other_value(get_args(annotation)[0], value)
    if origin is Literal:
        return next(choice for choice in get_args(annotation) if choice != value)
    if origin in (Union, types.UnionType):
        return other_value(next(part for part in get_args(annotation) if part is not type(None)), value or 0)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, dict):
        return {**value, "another": 1}
    if isinstance(value, tuple):
        return (*value, 7)
    raise AssertionError(f"no other value of {annotation} than {value!r}")


def changed(plan: BaseModel, path: str) -> Any:
    """The plan with another value at `path`."""
    name, _, rest = path.partition(".")
    value = getattr(plan, name)
    new = changed(value, rest) if rest else other_value(type(plan).model_fields[name].annotation, value)
    return plan.model_copy(update={name: new})


@pytest.mark.parametrize("path", sorted(set(leaves(RunPlan)) - set(EXCEPTIONS)))
def test_what_can_change_numbers_changes_the_identity(path: str) -> None:
    plan = run_plan()
    assert identity_of(plan) == plan.identity
    assert identity_of(changed(plan, path)) != plan.identity


@pytest.mark.parametrize("path", sorted(EXCEPTIONS))
def test_what_is_excepted_does_not(path: str) -> None:
    source = SourcePlan(manifest="m", digest="d", label_type="multi", num_classes=3, num_samples=4)
    others = {
        "evals": (EvalPlan(kind="fewshot", name="fewshot", sources={"support": source}),),
        "trial": TrialPlan(cell={}, number=0, values={}, space={}, search="grid", metric="loss"),
        "choice": ChoicePlan(cell={}, metric="loss", number=0, values={}, at_edge={}, trials=()),
        "harness": run_plan().harness.model_copy(update={"version": "9"}),
    }
    plan = run_plan()
    if path in ("engine.batching_counts", "start"):
        return
    if path.endswith(".access"):
        part = getattr(plan, path.partition(".")[0])
        access = part.access.model_copy(update={"cache": "/elsewhere"})
        new = plan.model_copy(update={path.partition(".")[0]: part.model_copy(update={"access": access})})
    else:
        new = plan.model_copy(update={path: others[path]}) if path in others else changed(plan, path)
    assert new != plan and identity_of(new) == plan.identity


def test_the_weights_to_start_from_are_in_by_their_digest() -> None:
    plan = run_plan()
    start = StartPlan(run_id="a", weights="a/best", sha256="0" * 64, model=plan.model)
    begun = identity_of(plan.model_copy(update={"start": start}))
    assert begun != plan.identity
    moved = start.model_copy(
        update={"run_id": "b", "weights": "/b", "model": plan.model.model_copy(update={"name": "n"})}
    )
    assert identity_of(plan.model_copy(update={"start": moved})) == begun
    others = start.model_copy(update={"sha256": "1" * 64})
    assert identity_of(plan.model_copy(update={"start": others})) != begun


@pytest.mark.parametrize("field", ["num_samples", "seed", "digest"])
def test_the_held_out_samples_are_in(field: str) -> None:
    dev = DevPlan(num_samples=3, seed=0, digest="d")
    plans = [run_plan().model_copy(update={"dev": one}) for one in (dev, changed(dev, field))]
    assert identity_of(plans[0]) != identity_of(plans[1])


TOLD_BESIDES = ("run_id", "identity", "subset.fraction", "schedule.epochs")
"""Exceptions that reading holds against the rest of the plan all the same."""


@pytest.mark.parametrize("path", [*sorted(set(leaves(RunPlan)) - set(EXCEPTIONS)), *TOLD_BESIDES])
def test_a_plan_whose_numbers_were_changed_is_refused_though_its_digest_fits(path: str, tmp_path: Path) -> None:
    """As by somebody who edits run.json and mends its digest."""
    plan = run_plan()
    plan.save(tmp_path)
    assert RunPlan.load(tmp_path) == plan
    changed(plan, path).save(tmp_path)
    with pytest.raises(RecordError, match=r"run\.json: .* by its content|run\.json: epochs is") as refusal:
        RunPlan.load(tmp_path)
    assert "plan the study again" in str(refusal.value) and "\n" not in str(refusal.value)


def test_no_exception_is_left_of_a_field_that_is_gone() -> None:
    assert set(EXCEPTIONS) <= set(leaves(RunPlan))


@pytest.mark.parametrize(
    ("counts", "field", "is_in"),
    [
        ("devices", "num_devices", True),
        ("devices", "micro_batch", False),
        ("micro_batch", "num_devices", True),
        ("micro_batch", "micro_batch", True),
    ],
)
def test_the_division_of_a_batch_is_in_where_it_counts(counts: str, field: str, is_in: bool) -> None:
    plan = run_plan()
    bound = plan.model_copy(update={"engine": plan.engine.model_copy(update={"batching_counts": counts})})
    assert (identity_of(changed(bound, f"engine.{field}")) != identity_of(bound)) == is_in
