"""Parameters and FLOPs of a study's models: from the package's table, from what this user has counted before, or
counted by `python -m scaling.models --json` in a process of its own.

Counting needs the model code and so PyTorch, which the launcher never imports. What was counted is kept for the user
(`~/.cache/scaling-study`, or under XDG_CACHE_HOME), under the versions of PyTorch, timm and the harness's own model
code, so that a corrected count arrives. A cache that cannot be read or written costs time and nothing else.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata, util
from pathlib import Path

import scaling
from scaling.errors import UserError
from scaling.models.registry import ENTRY_POINT_GROUP, find_model, is_timm_name
from scaling.plan.zoo_counts import ModelFacts, ModelQuery, zoo_facts
from scaling.records.reading import read_sealed, write_sealed
from scaling.records.run_plan import content_digest


def count_models(queries: Iterable[ModelQuery]) -> dict[ModelQuery, ModelFacts]:
    """The facts of every query; UserError when a model cannot be built."""
    facts: dict[ModelQuery, ModelFacts] = {}
    missing = []
    for query in dict.fromkeys(queries):
        found = zoo_facts(query) or _read(query)
        if found is None:
            missing.append(query)
        else:
            facts[query] = found
    for query, counted in zip(missing, count(missing), strict=True):
        facts[query] = counted
        _keep(query, counted)
    return facts


def count(queries: Sequence[ModelQuery]) -> list[ModelFacts]:
    """Ask the model package, one process for all queries that share image size, classes and options."""
    groups: dict[tuple[int, int, str], list[ModelQuery]] = {}
    for query in queries:
        groups.setdefault((query.image_size, query.num_classes, query.options_json), []).append(query)
    facts = {query: counted for group in groups.values() for query, counted in _count_group(group).items()}
    return [facts[query] for query in queries]


def cache_folder() -> Path:
    """Where this user's counts are kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "scaling-study" / "model-counts"


def _read(query: ModelQuery) -> ModelFacts | None:
    try:
        body = read_sealed(_cache_path(query))
        return ModelFacts(**body["facts"]) if body["query"] == asdict(query) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(query: ModelQuery, facts: ModelFacts) -> None:
    path = _cache_path(query)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, {"query": asdict(query), "facts": asdict(facts)})


def _cache_path(query: ModelQuery) -> Path:
    key = {"query": asdict(query), "versions": _versions(), "builder": _builder_stamp(query.name)}
    return cache_folder() / f"{content_digest(key)}.json"


@functools.cache
def _versions() -> dict[str, str]:
    """Of everything that the counts of any model depend on; our own model code by its content."""
    versions = {"scaling.models": _digest_of_models()}
    for name in ("torch", "timm", *sorted({point.dist.name for point in _family_points() if point.dist})):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _family_points() -> metadata.EntryPoints:
    return metadata.entry_points(group=ENTRY_POINT_GROUP)


def _digest_of_models() -> str:
    state = hashlib.sha256()
    for path in sorted((Path(scaling.__file__).parent / "models").rglob("*.py")):
        state.update(path.read_bytes())
    return state.hexdigest()


def _builder_stamp(name: str) -> str:
    """Size and time of the file that builds a model of a family outside of this package, which may change without a
    new version; empty for ours and timm's. Nothing is imported."""
    if is_timm_name(name):
        return ""
    module = find_model(name)[0].builder.partition(":")[0]
    root, *rest = module.split(".")
    if root == "scaling":
        return ""
    found = util.find_spec(root)
    for folder in found.submodule_search_locations or [] if found else []:
        path = Path(folder, *rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.exists():
                status = candidate.stat()
                return f"{status.st_size}-{status.st_mtime_ns}"
    if found and found.origin and Path(found.origin).exists():
        status = Path(found.origin).stat()
        return f"{status.st_size}-{status.st_mtime_ns}"
    return ""


def _count_group(group: Sequence[ModelQuery]) -> dict[ModelQuery, ModelFacts]:
    first = group[0]
    command = [
        *(sys.executable, "-m", "scaling.models", *(query.name for query in group), "--json"),
        *("--image-size", str(first.image_size), "--num-classes", str(first.num_classes)),
        *("--options", first.options_json),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode == 2:
        raise UserError(answer.stderr.strip().splitlines()[-1].removeprefix("error: "))
    if answer.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{answer.stderr}")
    rows = {row["name"]: row for row in json.loads(answer.stdout)}
    return {
        query: ModelFacts(
            num_params=rows[query.name]["num_params"],
            num_body_params=rows[query.name]["num_params_body"],
            flops_forward_per_image=rows[query.name]["flops_forward_per_image"],
            flops_train_per_image=rows[query.name]["flops_train_per_image"],
            mixes_examples=rows[query.name]["mixes_examples"],
            draws=rows[query.name]["draws"],
        )
        for query in group
    }
