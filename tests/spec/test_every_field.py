"""Every field of a sweep with a value of every wrong kind: planned, or refused in one sentence with exit code 2."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from scaling.evals.settings import EVALUATIONS
from scaling.spec.settings import RunSettings
from scaling.spec.study import ConstantEpochs, ConstantSteps, DataSpec, EvalSpec, LaunchSpec, MatchedCompute, Study
from tests.support.planning import DryRun, make_dry_run

SWEEP = """\
study: fields
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {protocol}
defaults: {{warmup: 10%}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
zip: {{log_every: [5], validate_every: [10]}}
include: [{{model: mixer-laptop-32px, seed: 1}}]
exclude: [{{seed: 2}}]
overrides: [{{match: {{model: "vit-*"}}, set: {{clip: 2.0}}}}]
evals:
  - {{kind: fewshot, support: train.json, test: val.json, shots: [2]}}
  - {{kind: throughput}}
"""

FINETUNE = "  - {kind: finetune, train: train.json, test: val.json}\n"
"""Written only where it is changed: it looks at the images of both sets."""

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


def fields(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """`prefix.field` of every field, with those of the models inside."""
    for name, field in model.model_fields.items():
        path = f"{prefix}.{name}" if prefix else name
        yield path
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        for part in inner:
            if issubclass(part, BaseModel) and part is not EvalSpec:
                yield from fields(part, path)


def all_fields() -> Iterator[tuple[str, str]]:
    """Protocol and path of everything that a sweep may hold."""
    yield from ((STEPS, path) for path in fields(Study, ""))
    yield from (
        (STEPS, f"{section}.{name}") for section in ("defaults", "include.0") for name in RunSettings.model_fields
    )
    yield from ((STEPS, f"overrides.0.{part}.seed") for part in ("match", "set"))
    yield from ((STEPS, f"{axis}.{name}") for axis in ("grid", "zip") for name in ("seed", "learning_rate", "warmup"))
    yield from ((STEPS, f"grid.{name}.0") for name in ("seed", "model", "fraction"))
    yield from ((STEPS, f"evals.{position}.{name}") for position in (0, 1, 2) for name in EvalSpec.model_fields)
    for position, kind in enumerate(("fewshot", "throughput", "finetune")):
        names = [*EVALUATIONS[kind].settings.model_fields, *EVALUATIONS[kind].sources]
        yield from ((STEPS, f"evals.{position}.{name}") for name in names)
    for protocol, model in ((STEPS, ConstantSteps), (EPOCHS, ConstantEpochs), (FLOPS, MatchedCompute)):
        yield from ((protocol, path) for path in fields(model, "protocol"))
    yield from ((STEPS, f"grid.protocol.{name}") for name in ("steps", "batch"))


def is_number(path: str) -> bool:
    """Whether the field takes numbers only, by its annotation."""
    section, _, name = path.rpartition(".")
    owners: dict[str, Any] = {"data": DataSpec, "defaults": RunSettings, "include.0": RunSettings, "launch": LaunchSpec}
    owner = owners.get(section)
    if owner is None or name not in owner.model_fields:
        return path in ("protocol.batch", "protocol.epochs", "protocol.train_flops", "protocol.steps")
    return owner.model_fields[name].annotation in (int, float)


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    return make_dry_run(monkeypatch, capsys, tmp_path / "runs")


@pytest.mark.parametrize(
    ("protocol", "path"), sorted(set(all_fields())), ids=lambda value: value if "." in value else ""
)
def test_a_wrong_value_is_one_sentence(
    protocol: str, path: str, tiny_data: Path, tmp_path: Path, dry_run: DryRun
) -> None:
    sweep = tmp_path / "sweep.yaml"
    text = SWEEP.format(root=json.dumps(str(tiny_data)), protocol=protocol)
    sweep.write_text(text + FINETUNE if path.startswith("evals.2") else text)
    assert dry_run(sweep) == (0, "")
    for value in (*NO_NUMBER, *OTHERS):
        code, told = dry_run(sweep, f"{path}={value}")
        assert code in (0, 2), (value, told)
        if code == 2:
            assert told.startswith("error: ") and told.count("\n") == 1 and len(told) < 2500, (value, told)
        if is_number(path) and value in NO_NUMBER:
            assert code == 2, value


def test_the_walk_reaches_every_part_of_the_schema() -> None:
    paths = {path for _, path in all_fields()}
    assert {"data.cache_gb", "launch.retries", "protocol.train_flops", "defaults.betas", "evals.0.l2", "study"} <= paths
    assert {f"launch.{name}" for name in LaunchSpec.model_fields} <= paths
