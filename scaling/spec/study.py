"""A study: the validated content of a sweep file.

Unknown keys are refused with the nearest known name; every message names file, line, field, value and rule.
The models are frozen: a validated study does not change while it is planned.
"""

import functools
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from scaling.errors import UserError, broken_rule, did_you_mean, shown
from scaling.records.run_plan import Frozen
from scaling.spec.document import Document, KeyPath, load_document
from scaling.spec.duration import Duration
from scaling.spec.launch_spec import LaunchSpec, check_sections
from scaling.spec.settings import RunSettings, holds_switch
from scaling.spec.tune import TuneSpec

MAX_BATCH = 10_000_000

Batch = Annotated[
    int, Field(gt=0, le=MAX_BATCH, description="Global batch: examples per optimiser step over all devices.")
]


class DataSpec(Frozen):
    """Where the images are: paths, or urls of s3, gs, http(s) or hf. Relative ones start at `root`; `root` and `cache`
    at the folder of the sweep file (at the current folder when `--set` gives them)."""

    root: str = Field(
        "",
        description="Folder or url that the other paths of the study are relative to; itself relative to the folder of "
        "the sweep file. Default: that folder.",
    )
    train: str = Field(description="Manifest of the pre-training shards.")
    val: str = Field(description="Manifest of the held-out upstream split; picks the weights that are kept.")
    exclude: str | None = Field(
        None, description="Training images that no run may see: a list that `scaling.data dedup` wrote."
    )
    make: dict[str, Any] | None = Field(
        None,
        description="Settings of `scaling.data make`: the shards are made in `root` when they are missing.",
    )
    max_corrupt: Annotated[int, Field(ge=0, le=10**12)] = Field(
        0, description="Training samples that may turn out unusable; others stand in for them, and they are counted."
    )
    allow_unfair_subsets: bool = Field(
        False, description="Take subsets also of shards whose label frequencies differ by more than chance."
    )
    verify_shards: bool = Field(
        True, description="Compare the SHA-256 of local shards with the manifest, once per shard and machine."
    )
    storage: dict[Literal["s3", "gs", "http", "https", "hf"], dict[str, Any]] = Field(
        {}, description="Options of fsspec's file systems by protocol, for example {s3: {endpoint_url: ...}}."
    )
    cache: str = Field("", description="Folder that keeps copies of remote shards; default: a temporary one.")
    cache_gb: Annotated[float, Field(gt=0, le=1e9)] = Field(50.0, description="Bound on the cache, 10^9 bytes.")


class ConstantSteps(Frozen):
    """Every subset gets the same number of optimiser steps (Mixer, Section 3.3): same cost at every point."""

    kind: Literal["constant_steps"]
    steps: Duration
    batch: Batch


class ConstantEpochs(Frozen):
    """Every subset is passed over the same number of times."""

    kind: Literal["constant_epochs"]
    epochs: Annotated[float, Field(gt=0, le=1e9, description="Passes over the subset, a plain number such as 7.")]
    batch: Batch


class MatchedCompute(Frozen):
    """Every run gets the same training FLOPs; the steps follow from each model's counted cost."""

    kind: Literal["matched_compute"]
    train_flops: Annotated[
        float, Field(gt=0, le=1e30, description="Training FLOPs of every run, a plain number such as 1.0e+18.")
    ]
    batch: Batch


Protocol = Annotated[ConstantSteps | ConstantEpochs | MatchedCompute, Field(discriminator="kind")]


class OverrideSpec(Frozen):
    """Where every field of `match` fits (a value, a list of values, or a text with * and ?), `set` applies."""

    match: dict[str, Any]
    set: dict[str, Any]


class EvalSpec(BaseModel):
    """One evaluation of every finished run. The remaining keys are the evaluator's own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = Field(description="Which evaluation, for example fewshot or throughput.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=64,
        description="Prefix of its metrics, of letters, digits and . _ -; default: the kind.",
    )


class Study(Frozen):
    """A sweep file."""

    study: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            max_length=100,
            description="Name of the study and its folder: at most 100 letters, digits and . _ -",
        ),
    ]
    question: str = Field("", description="What the study wants to know; printed in the report.")
    data: DataSpec
    protocol: Protocol
    defaults: dict[str, Any] = Field({}, description="Settings of every run that no axis sets.")
    grid: dict[str, list[Any]] = Field({}, description="Every combination of these values is a run.")
    zip: dict[str, list[Any]] = Field({}, description="Fields that vary together, combined with the grid.")
    include: list[dict[str, Any]] = Field([], description="Further runs.")
    exclude: list[dict[str, Any]] = Field([], description="Combinations to leave out.")
    overrides: list[OverrideSpec] = Field([], description="Exceptions, applied in the order written.")
    evals: list[EvalSpec] = Field([], description="What every finished run is scored by.")
    tune: TuneSpec | None = Field(None, description="Hyper-parameters to search for each cell before the runs.")
    launch: LaunchSpec = LaunchSpec()


def load_study(path: Path, options: Sequence[str] = ()) -> tuple[Study, Document]:
    """Read and validate a sweep file with `--set` options applied; UserError names the first problem.

    A relative `data.root` is made absolute, in the document too: a frozen sweep names the same data from any folder.
    """
    document = load_document(path, options)
    refuse_switches(Study, document, document.data, ())
    try:
        study = Study.model_validate(document.data)
    except ValidationError as error:
        raise explain(error, document, Study) from error
    check_sections(study.launch, document)
    root = study.data.root
    if "://" not in root:
        folder = Path.cwd() if document.is_from_option(("data", "root")) else path.absolute().parent
        root = os.path.normpath(folder / root)
    document.data["data"]["root"] = root
    return study.model_copy(update={"data": study.data.model_copy(update={"root": root})}), document


def refuse_switches(model: Any, document: Document, data: Any, place: KeyPath) -> None:
    """UserError for true or false where the models want something else; pydantic would take true for 1."""
    if not isinstance(data, Mapping) or not hasattr(model, "model_fields"):
        return
    for name, field in model.model_fields.items():
        value, at = data.get(name), (*place, name)
        refuse_switch(document, at, name, value, field)
        if isinstance(value, list):
            for position, item in enumerate(value):
                refuse_switches(_model_of(field.annotation, item), document, item, (*at, position))
        else:
            refuse_switches(_model_of(field.annotation, value), document, value, at)


def _takes_switch(annotation: Any) -> bool:
    """Whether true and false are among the values of a field with this annotation."""
    return annotation in (bool, Any) or any(_takes_switch(part) for part in get_args(annotation))


def explain(
    error: ValidationError,
    document: Document,
    model: type[BaseModel],
    place: KeyPath = (),
    names: Sequence[str] = (),
) -> UserError:
    """The first problem of a pydantic error as one sentence with its place in the document and a way out.

    `place` is that of the validated value; `names` are further allowed keys that the model does not list.
    """
    problems = error.errors(include_url=False)
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    location = place + _real_location(document.data, place, first["loc"])
    field_name = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        known = [*_known_keys(model, document.data, place, location), *names]
        return document.error(location, f"unknown key; {did_you_mean(field_name, known)}")
    if first["type"] == "missing":
        owner = location[:-1] if location and location[-1] == field_name else location
        return document.error(owner, f"the key {field_name!r} is missing; add '{field_name}: …'")
    if first["type"] in ("union_tag_not_found", "union_tag_invalid"):
        kinds = "constant_steps, constant_epochs or matched_compute"
        return document.error(location, f"kind must be {kinds}; write for example {{kind: constant_steps, …}}")
    value = "" if isinstance(first["input"], Mapping) else f"{shown(first['input'])}: "
    hint = _description(model, _at(document.data, place), location[len(place) :])
    return document.error(location, f"{value}{broken_rule(first)}{'; ' + hint if hint else ''}")


def check_setting(document: Document, place: KeyPath, name: str, value: Any) -> Any:
    """Validate one run setting where it was written; returns it parsed."""
    if name not in RunSettings.model_fields:
        hint = did_you_mean(name, RunSettings.model_fields, 30)
        raise document.error(place, f"unknown setting {shown(name)}; {hint}")
    field = RunSettings.model_fields[name]
    refuse_switch(document, place, name, value, field)
    try:
        return setting_adapter(name).validate_python(value)
    except ValidationError as error:
        rule = broken_rule(error.errors(include_url=False)[0])
        raise document.error(place, f"{shown(value)}: {rule}{_hint(name, field)}") from error


def refuse_switch(document: Document, place: KeyPath, name: str, value: Any, field: FieldInfo) -> None:
    """UserError for a value that `holds_switch`, where the field has no such value."""
    if holds_switch(value) and not _takes_switch(field.annotation):
        raise document.error(place, f"{shown(value)}: it is not a switch{_hint(name, field)}")


def _hint(name: str, field: FieldInfo) -> str:
    return f"; {name}: {field.description}" if field.description else ""


@functools.cache
def setting_adapter(name: str) -> TypeAdapter[Any]:
    """Validates and parses values of one run setting."""
    field = RunSettings.model_fields[name]
    annotated: Any = Annotated[(field.annotation, *field.metadata, field)]
    # Pydantic takes no config for a dataclass; a duration checks its own bounds.
    config = None if field.annotation is Duration else ConfigDict(allow_inf_nan=False)
    return TypeAdapter(annotated, config=config)


def _at(data: Any, place: KeyPath) -> Any:
    for part in place:
        data = data[part]
    return data


def _real_location(data: Any, place: KeyPath, location: Sequence[str | int]) -> KeyPath:
    """Pydantic's location without the tags it inserts for unions: only keys that the document has, then the rest."""
    data = _at(data, place)
    real: list[str | int] = []
    for position, part in enumerate(location):
        is_key = isinstance(data, Mapping) and part in data
        is_item = isinstance(data, list) and isinstance(part, int) and part < len(data)
        if is_key or is_item:
            data = data[part]
        elif position < len(location) - 1 or not isinstance(data, Mapping):
            continue
        real.append(part)
    return tuple(real)


def _known_keys(model: type[BaseModel], data: Any, place: KeyPath, location: KeyPath) -> list[str]:
    """Field names of the model that governs the mapping which holds the key at `location`."""
    *_, (owner, _) = _owners(model, _at(data, place), location[len(place) :])
    return list(owner.model_fields)


def _owners(model: type[BaseModel], data: Any, location: KeyPath) -> Iterator[tuple[type[BaseModel], str]]:
    """Every key of a location with the model that it is a field of, known or not, as far as models govern it."""
    current: Any = model
    for part in location:
        is_named = get_origin(current) is dict
        if isinstance(part, str) and not is_named:
            if not hasattr(current, "model_fields"):
                return
            yield current, part
            if part not in current.model_fields:
                return
        holds = (isinstance(data, Mapping) and part in data) or (isinstance(data, list) and isinstance(part, int))
        data = data[part] if holds else None
        if is_named:
            current = _model_of(get_args(current)[1], data)
        elif isinstance(part, str):
            current = _model_of(current.model_fields[part].annotation, data)


def _model_of(annotation: Any, data: Any) -> Any:
    """The pydantic model inside an annotation; of several, the one whose `kind` is the data's."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _model_of(get_args(annotation)[0], data)
    if origin is list:
        return _model_of(get_args(annotation)[0], data)
    if origin in (Union, types.UnionType):
        models = [option for option in map(_inner, get_args(annotation)) if hasattr(option, "model_fields")]
        for option in models:
            kinds = get_args(option.model_fields["kind"].annotation) if "kind" in option.model_fields else ()
            if isinstance(data, Mapping) and data.get("kind") in kinds:
                return option
        return models[0] if len(models) == 1 else annotation
    return annotation


def _inner(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _description(model: type[BaseModel], data: Any, location: KeyPath) -> str:
    """The description of the innermost field at a location, as a hint; empty when it has none."""
    text = ""
    for owner, name in _owners(model, data, location):
        if name in owner.model_fields:
            description = owner.model_fields[name].description
            text = f"{name}: {description}" if description else ""
    return text
