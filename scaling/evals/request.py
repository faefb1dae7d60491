"""What `scaling.evaluate` is asked to do, checked before PyTorch is imported.

A run directory brings its model, its weights and its planned evaluations; a weights file that training wrote names
its model itself; for any other file the model must be named. Settings start from the plan if it exists.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from scaling.data.format.manifest import find_manifest, load_manifest
from scaling.errors import UserError, did_you_mean
from scaling.evals.settings import EVALUATIONS, EvaluationKind
from scaling.models.registry import check_name, check_options, default_image_size, is_timm_name
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import UNPERMUTED, AccessPlan, EvalPlan, InputPlan, ModelPlan, RunPlan, SourcePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What has to be built before weights can be loaded, and what images it takes."""

    name: str
    num_classes: int
    image_size: int
    options: dict[str, Any]
    has_head: bool
    """Whether the weights hold this classifier; without it the model keeps a fresh one, which no probe looks at."""
    input: InputPlan = UNPERMUTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    weights: str
    model: Architecture
    evaluations: tuple[EvalPlan, ...]
    precision: Literal["fp32", "bf16"]
    loader_threads: int


def read_request(
    target: str,
    *,
    names: Sequence[str],
    options: Sequence[str],
    model: str | None,
    image_size: int | None,
    model_options: Sequence[str],
    precision: Literal["fp32", "bf16"] | None,
    loader_threads: int,
    access: AccessPlan,
) -> Request:
    """Turn the command line's words into models and plans; UserError names the first that is wrong."""
    settings = _parse(options, "--set")
    if not is_timm_name(target) and Path(target).is_dir():
        if model or image_size or model_options:
            raise UserError(f"{target} is a run and knows its model; leave out --model, --image-size and --option")
        plan = RunPlan.load(Path(target))
        weights = RunDir(Path(target)).best_weights
        if not weights.exists():
            raise UserError(f"{target} has no kept weights yet ({weights}); train it at least to its first validation")
        return Request(
            weights=str(weights),
            model=_of_plan(plan.model, plan.input),
            evaluations=_choose(names, settings, plan.evals, access),
            precision=precision or plan.recipe.precision,
            loader_threads=loader_threads,
        )
    if not names:
        raise UserError(f"which evaluation of {target}? add --eval, one of: {', '.join(EVALUATIONS)}")
    return Request(
        weights=target,
        model=_architecture(target, model, image_size, _parse(model_options, "--option")),
        evaluations=_choose(names, settings, (), access),
        precision=precision or "fp32",
        loader_threads=loader_threads,
    )


def _architecture(target: str, name: str | None, image_size: int | None, options: dict[str, Any]) -> Architecture:
    if name is None:
        described = _described_in(target)
        if described is None:
            raise UserError(
                f"{target} does not say what model it is of; add --model NAME (python -m scaling.models lists them)"
            )
        if image_size or options:
            raise UserError(f"{target} names its model itself; leave out --image-size and --option, or add --model")
        return _of_plan(*described)
    check_name(name)
    check_options(name, options)
    size = image_size or default_image_size(name)
    return Architecture(name=name, num_classes=1, image_size=size, options=options, has_head=False)


def _described_in(target: str) -> tuple[ModelPlan, InputPlan] | None:
    """The model and its input as training wrote them into a weights file, or None for any other file."""
    path = Path(target)
    if path.suffix != ".safetensors":
        return None
    if not path.is_file():
        raise UserError(f"weights {target!r}: there is no such file; give a run directory or a weights file")
    with path.open("rb") as stream:
        # The format: eight bytes with the length of a JSON header, then the header.
        length = int.from_bytes(stream.read(8), "little")
        if length > path.stat().st_size:
            raise UserError(f"weights {target!r} are no safetensors file")
        try:
            metadata = json.loads(stream.read(length)).get("__metadata__", {})
            if "model" not in metadata:
                return None
            return (
                ModelPlan.model_validate_json(metadata["model"]),
                InputPlan.model_validate_json(metadata["input"]),
            )
        except (ValueError, AttributeError) as error:
            raise UserError(f"weights {target!r} are no safetensors file that this version reads: {error}") from error


def _of_plan(model: ModelPlan, input: InputPlan) -> Architecture:
    return Architecture(
        name=model.name,
        num_classes=model.num_classes,
        image_size=model.image_size,
        options=model.options,
        has_head=True,
        input=input,
    )


def _choose(
    names: Sequence[str], settings: dict[str, Any], planned: Sequence[EvalPlan], access: AccessPlan
) -> tuple[EvalPlan, ...]:
    """The planned evaluations of these names, or new ones of these kinds, with `settings` applied."""
    by_name = {plan.name: plan for plan in planned}
    if not names and not planned:
        raise UserError(f"the run has no planned evaluation; add --eval, one of: {', '.join(EVALUATIONS)}")
    chosen = []
    for name in names or [name for name, plan in by_name.items() if plan.by == "scoring"]:
        plan = by_name.get(name)
        kind = EVALUATIONS.get(plan.kind if plan else name)
        if kind is None:
            known = sorted({*by_name, *EVALUATIONS})
            raise UserError(f"--eval {name}: there is no such evaluation; {did_you_mean(name, known)}")
        chosen.append(plan if plan and not settings else _plan(name, kind, plan, dict(settings), access))
    return tuple(chosen)


def _plan(
    name: str, kind: EvaluationKind, planned: EvalPlan | None, given: dict[str, Any], access: AccessPlan
) -> EvalPlan:
    sources = dict(planned.sources) if planned else {}
    for role in kind.sources:
        if role in given:
            sources[role] = _source(str(given.pop(role)), access)
        elif role not in sources:
            raise UserError(f"--eval {name}: the manifest {role!r} is missing; add --set {role}=MANIFEST")
    try:
        settings = kind.settings.model_validate({**(planned.settings if planned else {}), **given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        known = [*kind.settings.model_fields, *kind.sources]
        hint = did_you_mean(field, known) if first["type"] == "extra_forbidden" else first["msg"]
        raise UserError(f"--set {field}={given.get(field)}: --eval {name} cannot take it; {hint}") from error
    return EvalPlan(
        kind=planned.kind if planned else name, name=name, sources=sources, settings=settings.model_dump(mode="json")
    )


def _source(location: str, access: AccessPlan) -> SourcePlan:
    place = find_manifest("", location)
    manifest = load_manifest(place, access)
    return SourcePlan(
        manifest=str(place),
        access=access,
        digest=manifest.digest,
        label_type=manifest.label_type,
        num_classes=len(manifest.classes),
        num_samples=manifest.num_samples,
    )


def _parse(words: Sequence[str], option: str) -> dict[str, Any]:
    """`KEY=VALUE` with the value read as YAML."""
    settings = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"{option} {word!r}: write it as KEY=VALUE, for example {option} shots=[1,5,10]")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{option} {word!r}: the value is not valid YAML") from error
    return settings
