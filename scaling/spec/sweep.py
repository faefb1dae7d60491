"""The sweep language: one study -> the settings of every run, in a fixed order.

    grid      every combination; the first axis varies slowest
    zip       columns that vary together; the zipped rows are one more axis of the grid
    exclude   combinations to leave out, as the grid has them: before include, which can bring one back, and before
              overrides change their values
    include   further runs, each a mapping of settings
    overrides where `match` fits, `set` applies, in the order written
    recipe    a setting that names published values; they lie under all that the study writes itself:
              recipe < defaults < grid, zip, include < overrides

Rules (`exclude`, `match`) go by what a run has, also by a recipe or a default. A rule that fits no run, and a setting
that no run uses, are refused.

A key is a run setting (`learning_rate`) or a field of the protocol (`protocol.steps`), so that the length of a
run may vary too.
"""

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scaling.errors import UserError, broken_rule, did_you_mean, shown
from scaling.spec.document import Document, KeyPath
from scaling.spec.effects import check_effects
from scaling.spec.recipe import recipe_values
from scaling.spec.rules import Rule, Rules
from scaling.spec.settings import RunSettings
from scaling.spec.study import Protocol, Study, check_setting, refuse_switch

MAX_RUNS = 100_000

_PROTOCOL: TypeAdapter[Any] = TypeAdapter(Protocol)


@dataclass(frozen=True)
class RunSpec:
    """One run as the study describes it, before planning."""

    settings: RunSettings
    protocol: Any
    """ConstantSteps, ConstantEpochs or MatchedCompute."""
    axes: dict[str, Any]
    """The values of this run on the study's axes, in the order written: what tells it from its neighbours."""
    place: KeyPath
    """Where in the sweep file this run comes from."""


def expand(study: Study, document: Document) -> list[RunSpec]:
    """All runs of a study; UserError when an axis is empty, a name unknown or nothing is left."""
    _check_names(study, document)
    _check_size(study, document)
    defaults = {
        name: check_setting(document, ("defaults", name), name, value) for name, value in study.defaults.items()
    }
    points: list[tuple[dict[str, Any], KeyPath]] = [(point, ("grid",)) for point in _grid_points(study, document)]
    excludes: dict[KeyPath, Rule] = {("exclude", i): rule for i, rule in enumerate(study.exclude)}
    overrides: dict[KeyPath, Rule] = {("overrides", i, "match"): rule.match for i, rule in enumerate(study.overrides)}
    rules = Rules(excludes | overrides, study.protocol)
    points = [(point, place) for point, place in points if not rules.fit(excludes, defaults | point)]
    for position, extra in enumerate(study.include):
        parsed = {key: _check(study, document, ("include", position, key), key, v) for key, v in extra.items()}
        points.append((parsed, ("include", position)))
    if not points:
        rule = "exclude removes every run" if study.exclude else "the grid is empty"
        raise document.error(
            ("exclude",) if study.exclude else ("grid",),
            f"{rule}; give at least grid: {{model: [mixer-b/32], fraction: [1.0]}}",
        )
    changes = [
        {k: _check(study, document, ("overrides", i, "set", k), k, v) for k, v in rule.set.items()}
        for i, rule in enumerate(study.overrides)
    ]
    specs = []
    for point, place in points:
        values = {**defaults, **point}
        for override, change in zip(overrides, changes, strict=True):
            if rules.fit([override], values):
                values.update(change)
        specs.append(_resolve(study, document, values, point, place))
    runs = [functools.partial(_value, spec) for spec in specs]
    rules.check_each_fits(document, runs)
    check_effects(study, document, runs)
    return specs


def with_values(spec: RunSpec, study: Study, document: Document, values: Mapping[str, Any], place: KeyPath) -> RunSpec:
    """The run with further settings and `protocol.` fields laid over all that the study says of it; `values` as a sweep
    writes them, `place` where they stand. UserError for a value that its setting cannot take."""
    parsed = {name: _check(study, document, (*place, name), name, value) for name, value in values.items()}
    settings = {name: value for name, value in parsed.items() if not name.startswith("protocol.")}
    fields = {name.removeprefix("protocol."): value for name, value in parsed.items() if name not in settings}
    protocol = _PROTOCOL.validate_python(spec.protocol.model_dump() | fields) if fields else spec.protocol
    return replace(spec, settings=spec.settings.model_copy(update=settings), protocol=protocol)


def value_of(spec: RunSpec, name: str) -> Any:
    """What a run has for a setting or a `protocol.` field, as plain JSON."""
    owner = spec.protocol if name.startswith("protocol.") else spec.settings
    return owner.model_dump(mode="json")[name.removeprefix("protocol.")]


def _value(spec: RunSpec, name: str) -> Any:
    """What a run has for a setting or a `protocol.` field; None where it has none such."""
    owner = spec.protocol if name.startswith("protocol.") else spec.settings
    return getattr(owner, name.removeprefix("protocol."), None)


def _check_size(study: Study, document: Document) -> None:
    """The grid's size is known before any of it is built."""
    zipped = [max(map(len, study.zip.values()))] if study.zip else []
    lengths = [*map(len, study.grid.values()), *zipped]
    num_runs = math.prod(lengths) + len(study.include)
    if num_runs > MAX_RUNS:
        product = " x ".join(f"{length:,}" for length in lengths)
        raise document.error(
            ("grid",),
            f"{shown(product)[1:-1]} values make {num_runs:.3g} runs; a study has at most {MAX_RUNS:,}, so split it",
        )


def _grid_points(study: Study, document: Document) -> list[dict[str, Any]]:
    axes: list[list[dict[str, Any]]] = []
    for name, values in study.grid.items():
        if not values:
            raise document.error(("grid", name), "the list is empty, so the study has no runs; give at least one value")
        axes.append(
            [
                {name: _check(study, document, ("grid", name, position), name, value)}
                for position, value in enumerate(values)
            ]
        )
    if study.zip:
        lengths = {name: len(values) for name, values in study.zip.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            shown = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise document.error(("zip",), f"zipped lists must be equally long and not empty, but {shown}")
        columns = {
            name: [_check(study, document, ("zip", name, i), name, value) for i, value in enumerate(values)]
            for name, values in study.zip.items()
        }
        rows = zip(*columns.values(), strict=True)
        axes.append([dict(zip(columns, row, strict=True)) for row in rows])
        overlap = set(study.zip) & set(study.grid)
        if overlap:
            raise document.error(("zip", min(overlap)), "it is in grid as well; keep it in one of the two")
    if not axes:
        return []
    return [{k: v for part in combination for k, v in part.items()} for combination in itertools.product(*axes)]


def _resolve(
    study: Study,
    document: Document,
    values: Mapping[str, Any],
    point: Mapping[str, Any],
    place: KeyPath,
) -> RunSpec:
    """Lay all that the study writes of a run over its recipe, and split run settings from protocol fields."""
    protocol_values = {
        key.removeprefix("protocol."): value for key, value in values.items() if key.startswith("protocol.")
    }
    settings = {key: value for key, value in values.items() if not key.startswith("protocol.")}
    if "model" not in settings:
        raise document.error(place, "no model is given; add for example model: [mixer-b/32] to grid")
    if settings.get("recipe"):
        try:
            settings = recipe_values(settings["recipe"], settings) | settings
        except UserError as error:
            raise document.error(_place_of_recipe(study, place, point), str(error)) from error
    protocol = study.protocol
    if protocol_values:
        protocol = _PROTOCOL.validate_python(study.protocol.model_dump() | protocol_values)
    return RunSpec(RunSettings(**settings), protocol, dict(point), place)


def _place_of_recipe(study: Study, place: KeyPath, point: Mapping[str, Any]) -> KeyPath:
    if "recipe" in point:
        return (*place, "recipe")
    return ("defaults", "recipe") if "recipe" in study.defaults else ("overrides",)


def _check(study: Study, document: Document, place: KeyPath, name: str, value: Any) -> Any:
    """Validate a setting or a `protocol.` field where it was written."""
    if not name.startswith("protocol."):
        return check_setting(document, place, name, value)
    field = name.removeprefix("protocol.")
    known = [f"protocol.{key}" for key in type(study.protocol).model_fields if key != "kind"]
    if name not in known:
        raise document.error(place, f"unknown field of {study.protocol.kind}; {did_you_mean(name, known)}")
    try:
        checked = _PROTOCOL.validate_python(study.protocol.model_dump() | {field: value})
    except ValidationError as error:
        raise document.error(place, f"{shown(value)}: {broken_rule(error.errors(include_url=False)[0])}") from error
    return getattr(checked, field)


def _check_names(study: Study, document: Document) -> None:
    """Match rules name existing settings; a misspelt one would silently never fit."""
    rules: list[tuple[KeyPath, Mapping[str, Any]]] = [
        (("exclude", position), rule) for position, rule in enumerate(study.exclude)
    ]
    rules += [(("overrides", position, "match"), rule.match) for position, rule in enumerate(study.overrides)]
    for place, rule in rules:
        for name, wanted in rule.items():
            if name.startswith("protocol."):
                continue
            if name not in RunSettings.model_fields:
                known = RunSettings.model_fields
                raise document.error((*place, name), f"unknown setting; {did_you_mean(name, known, 30)}")
            refuse_switch(document, (*place, name), name, wanted, RunSettings.model_fields[name])
