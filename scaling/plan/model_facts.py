"""Parameters and FLOPs of the study's models, counted by `python -m scaling.models --json` in a process of its own.

Counting needs the model code and so PyTorch, which the launcher never imports. One process counts all models
of a study; the answers are kept in the study directory, so that planning the same study again is immediate.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.records.files import write_json_atomic
from scaling.records.run_plan import content_digest


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """What the counts depend on."""

    name: str
    image_size: int
    num_classes: int
    options_json: str = "{}"
    """Canonical JSON of the model's options: hashable."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    num_params: int
    num_body_params: int
    flops_forward_per_image: float
    flops_train_per_image: float


def count_models(queries: Iterable[ModelQuery], cache_path: Path | None) -> dict[ModelQuery, ModelFacts]:
    """The facts of every query, from the cache where it has them."""
    wanted = list(dict.fromkeys(queries))
    cache: dict[str, Any] = json.loads(cache_path.read_text()) if cache_path and cache_path.exists() else {}
    missing = [query for query in wanted if _key(query) not in cache]
    groups: dict[tuple[int, int, str], list[ModelQuery]] = {}
    for query in missing:
        groups.setdefault((query.image_size, query.num_classes, query.options_json), []).append(query)
    for group in groups.values():
        for query, facts in zip(group, _count(group), strict=True):
            cache[_key(query)] = asdict(facts)
    if missing and cache_path is not None:
        cache_path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(cache_path, cache)
    return {query: ModelFacts(**cache[_key(query)]) for query in wanted}


def _key(query: ModelQuery) -> str:
    return f"{query.name}-{content_digest(asdict(query))[:12]}"


def _count(group: list[ModelQuery]) -> list[ModelFacts]:
    """Ask the model package; all queries of a group share image size, classes and options."""
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
    return [
        ModelFacts(
            num_params=rows[query.name]["num_params"],
            num_body_params=rows[query.name]["num_params_body"],
            flops_forward_per_image=rows[query.name]["flops_forward_per_image"],
            flops_train_per_image=rows[query.name]["flops_train_per_image"],
        )
        for query in group
    ]
