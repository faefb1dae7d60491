"""Every field of a sweep with a value of every wrong kind: planned, or refused in one sentence with exit code 2.

Each value stands in a sweep that plans without it and that has the section around it, so that it is this value that is
judged and not what else is missing; `test_the_walk_reaches_every_field_of_the_schema` proves that no field is left out.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from scaling.data.format.copies import Opened, find_copies
from scaling.evals.settings import EVALUATIONS
from scaling.plan import overlap
from scaling.spec.document import load_document
from scaling.spec.launch_spec import LaunchSpec, LocalSection, RaySection, SlurmOverride, SlurmShape
from scaling.spec.settings import RunSettings
from scaling.spec.study import ConstantEpochs, ConstantSteps, DataSpec, EvalSpec, MatchedCompute, Study
from scaling.spec.tune import Searched, TuneSpec
from tests.support.planning import DryRun, make_dry_run

SWEEP = """\
study: fields
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {protocol}
defaults: {{warmup: 10%}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0, 2]}}
zip: {{log_every: [5], validate_every: [10]}}
include: [{{model: mixer-laptop-32px, seed: 1}}]
exclude: [{{seed: 2}}]
overrides: [{{match: {{model: "mixer-*"}}, set: {{clip: 2.0}}}}]
evals:
  - {{kind: fewshot, support: train.json, test: val.json, shots: [2]}}
  - {{kind: throughput}}
"""

FINETUNE = "  - {kind: finetune, train: train.json, test: val.json}\n"
"""Written only where it is changed: it looks at the images of both sets. Others of the schema stand in MORE_EVALS."""

MORE_EVALS = """\
  - {kind: throughput, name: in-place-of-fine-tuning}
  - {kind: fewshot_2021, support: train.json, test: val.json, shots: [2]}
  - {kind: upstream, test: val.json}
  - {kind: real, test: val.json, labels: sets.json}
"""
TUNE = """\
tune:
  per: [model, fraction]
  space:
    learning_rate: {log_uniform: [1.0e-4, 1.0e-2], points: 3}
    weight_decay: {uniform: [0.0, 0.2], points: 2}
    randaugment_layers: {integer: [0, 2], points: 2}
    mixup: {choice: [0.0, 0.2]}
  num_trials: 2
  search: random
  scheduler: asha
  grace_period: 1
  reduction_factor: 2
  metric: upstream/loss
  seeds: [1000]
  seed: 3
  set: {protocol.steps: 20}
  extend: 1
"""

OPTUNA = ("  num_trials: 2\n  search: random\n", "  num_trials: 11\n  search: optuna\n  max_concurrent: 2\n")
"""Makes it a search by optuna, of which alone some settings are."""

LAUNCH = """\
launch:
  backend: local
  devices_per_run: 1
  nodes: 1
  devices_per_node: 1
  cpus: 1
  memory: 8GB
  time: 8h
  loader_threads: 1
  loader_processes: 1
  pixel_cache: 1GB
  retries: 1
  reproduce: loose
  trackers: [tensorboard]
  price_per_device_hour: 2.5
  currency: EUR
  throughput: after
  local: {max_parallel: 2, threads: 1}
  slurm:
    nodes: 1
    devices_per_node: 1
    cpus: 2
    memory: 16GB
    time: 2h
    profile: profile.yaml
    max_parallel: 4
    poll: 20s
    hung_after: 30m
    overrides: [{match: {model: "mixer-*"}, set: {nodes: 2, devices_per_node: 2, cpus: 4, memory: 32GB, time: 4h}}]
  ray:
    address: auto
    max_parallel: 2
    num_cpus: 0.5
    num_gpus: 0
    resources: {fast: 1}
    labels: {zone: a}
    strategy: PACK
    autoscaler: false
    dashboard: false
    poll: 2s
"""

STEPS = "{kind: constant_steps, steps: 30, batch: 16}"
EPOCHS = "{kind: constant_epochs, epochs: 2, batch: 16}"
FLOPS = "{kind: matched_compute, train_flops: 1.0e+9, batch: 16}"

NO_NUMBER = [
    *("text", "''", "null", "true", "[1, 2]", "[[1]]", "[]", "{}", "{a: 1}", "2026-01-01", "1:30", "0x", "5%%"),
    *(
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "-1e400",
        "'nan'",
        "'inf'",
        "'1e400'",
        "9" * 30,
        "9" * 5000,
        "'" + "9" * 5000 + "'",
    ),
]
"""YAML that is no number that any field could want."""

OTHERS = [
    *("-1", "0", "1.5", "-0.0", "1e-320", "1e300", "9223372036854775807", "9223372036854775808", "100000000000", "010"),
    *(
        "x" * 300,
        "../x",
        "/",
        "a/b",
        "'a b'",
        "'a\nb'",
        '"\\0"',
        "'timm:'",
        "'*'",
        "é",
        "{model: {model: {}}}",
        "[null]",
    ),
    *("[true]", "[{}]", "{a: [1, {b: 2}]}", "&a [*a]", "*a", "!!int 3", "[1, 2", "'" + "y" * 20000 + "'", "[" * 60),
]


Field = tuple[type[BaseModel], str]

NAMES = {"tune.space": ("learning_rate", "weight_decay", "randaugment_layers", "mixup")}
"""Keys of mappings to models in the sweeps here."""


def models_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """What holds the models of an annotation (nothing, `list` or `dict`), and the models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
    elif get_origin(annotation) is not Literal:
        kind = getattr(get_origin(annotation), "__name__", "")
        for part in get_args(annotation):
            for inner, model in models_in(part):
                yield inner or (kind if kind in ("list", "dict") else ""), model


def fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Field]]:
    """`prefix.field` of every field, with those of the models inside; a protocol's and an evaluation's are below."""
    for name, field in model.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        yield path, (model, name)
        for kind, part in models_in(field.annotation):
            if part in (ConstantSteps, ConstantEpochs, MatchedCompute, EvalSpec):
                continue
            places = {"": [path], "list": [f"{path}.0"], "dict": [f"{path}.{key}" for key in NAMES.get(path, ())]}
            for place in places[kind]:
                yield from fields(part, place)


EVALUATED = ("fewshot", "throughput", "finetune", "fewshot_2021", "upstream", "real")
"""Kinds of the evaluations of the sweeps, in their order."""


def all_fields() -> Iterator[tuple[str, str, Field]]:
    """Protocol and path of everything that a sweep may hold, with the field of the schema that it is."""
    yield from ((STEPS, path, field) for path, field in fields(Study, ""))
    for section in ("defaults", "include.0"):
        yield from ((STEPS, f"{section}.{name}", (RunSettings, name)) for name in RunSettings.model_fields)
    inside = [f"overrides.0.{part}.seed" for part in ("match", "set")]
    inside += [f"{axis}.{name}" for axis in ("grid", "zip") for name in ("seed", "learning_rate", "warmup")]
    inside += [f"grid.{name}.0" for name in ("seed", "model", "fraction")]
    inside += [f"grid.protocol.{name}" for name in ("steps", "batch")]
    inside += ["tune.per.0", "tune.set.seed", "tune.set.fraction", "tune.seeds.0", "tune.space.learning_rate"]
    inside += [f"tune.space.{name}.{kind}.0" for name, kind in
               (("learning_rate", "log_uniform"), ("weight_decay", "uniform"), ("randaugment_layers", "integer"),
                ("mixup", "choice"))]  # fmt: skip
    inside += ["launch.slurm.overrides.0.match.model", "launch.ray.resources.fast", "launch.ray.labels.zone"]
    yield from ((STEPS, path, (Study, path.partition(".")[0])) for path in inside)
    for position, kind in enumerate(EVALUATED):
        yield from ((STEPS, f"evals.{position}.{name}", (EvalSpec, name)) for name in EvalSpec.model_fields)
        settings = EVALUATIONS[kind].settings
        yield from ((STEPS, f"evals.{position}.{name}", (settings, name)) for name in settings.model_fields)
        yield from ((STEPS, f"evals.{position}.{name}", (EvalSpec, "kind")) for name in EVALUATIONS[kind].sources)
    for protocol, model in ((STEPS, ConstantSteps), (EPOCHS, ConstantEpochs), (FLOPS, MatchedCompute)):
        yield from ((protocol, path, field) for path, field in fields(model, "protocol"))


def sweep_for(path: str, protocol: str, root: Path) -> str:
    """A sweep that plans and has the section around `path`."""
    text = SWEEP.format(root=json.dumps(str(root)), protocol=protocol)
    section, _, place = path.partition(".")
    if section == "evals" and place[:1] in ("2", "3", "4", "5"):
        text += FINETUNE if place[0] == "2" else MORE_EVALS
    text += {"tune": TUNE, "launch": LAUNCH}.get(section, "")
    return text.replace(*OPTUNA) if place == "max_concurrent" else text


def is_number(path: str) -> bool:
    """Whether the field takes numbers only, by its annotation."""
    section, _, name = path.rpartition(".")
    owners: dict[str, Any] = {"data": DataSpec, "defaults": RunSettings, "include.0": RunSettings, "launch": LaunchSpec}
    owner = owners.get(section)
    if owner is None or name not in owner.model_fields:
        return path in ("protocol.batch", "protocol.epochs", "protocol.train_flops", "protocol.steps")
    return owner.model_fields[name].annotation in (int, float)


COPIES: dict[tuple[str, str], list[str]] = {}
"""Found in pairs of data sets, which nothing here changes: looking again would be most of the time."""


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    def find_once(held_out: Opened, learned: Opened) -> list[str]:
        pair = (held_out[0].digest, learned[0].digest)
        if pair not in COPIES:
            COPIES[pair] = find_copies(held_out, learned)
        return COPIES[pair]

    monkeypatch.setattr(overlap, "find_copies", find_once)
    return make_dry_run(monkeypatch, capsys, tmp_path / "runs")


@pytest.fixture(scope="module")
def root(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with the other files that sweeps name."""
    folder = tmp_path_factory.mktemp("fields")
    for name in ("train", "train.json", "val", "val.json"):
        (folder / name).symlink_to(tiny_data / name)
    (folder / "sets.json").write_text(json.dumps([[0]] * 80))
    return folder


@pytest.mark.parametrize(
    ("protocol", "path"),
    sorted({(protocol, path) for protocol, path, _ in all_fields()}),
    ids=lambda value: value if "." in value else "",
)
def test_a_wrong_value_is_one_sentence(protocol: str, path: str, root: Path, tmp_path: Path, dry_run: DryRun) -> None:
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(sweep_for(path, protocol, root))
    assert dry_run(sweep) == (0, "")
    for value in (*NO_NUMBER, *OTHERS):
        code, told = dry_run(sweep, f"{path}={value}")
        assert code in (0, 2), (value, told)
        if code == 2:
            assert told.startswith("error: ") and told.count("\n") == 1 and len(told) < 2500, (value, told)
        if is_number(path) and value in NO_NUMBER:
            assert code == 2, value


def test_the_walk_reaches_every_field_of_the_schema() -> None:
    def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for field in model.model_fields.values():
            for _, part in models_in(field.annotation):
                yield from models(part)

    settings = [EVALUATIONS[kind].settings for kind in EVALUATED]
    reached = {model for one in (Study, RunSettings, *settings) for model in models(one)}
    wanted = {(model, name) for model in reached for name in model.model_fields}
    assert {TuneSpec, Searched, SlurmShape, SlurmOverride, RaySection, LocalSection} <= reached
    assert wanted <= {field for _, _, field in all_fields()}
    assert set(EVALUATED) == set(EVALUATIONS)


@pytest.mark.parametrize("section", ["tune", "launch"])
def test_the_sweeps_around_the_fields_have_every_one_of_them(section: str, root: Path, tmp_path: Path) -> None:
    """Each of those paths is written, so that what is tried replaces a good value."""
    absent = []
    for path, (model, _) in fields(Study, ""):
        if path.startswith(f"{section}.") and model is not Searched:
            sweep = tmp_path / "sweep.yaml"
            sweep.write_text(sweep_for(path, STEPS, root))
            value: Any = load_document(sweep).data
            for part in path.split("."):
                value = value[int(part)] if isinstance(value, list) else (value or {}).get(part)
            absent += [path] if value is None else []
    assert absent == []
