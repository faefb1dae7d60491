"""Options of the commands that read remote data: the same as `storage`, `cache` and `cache_gb` of a study's `data`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from scaling.errors import UserError
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan


def add_storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage",
        action="append",
        default=[],
        metavar="PROTOCOL.KEY=VALUE",
        help="an option of fsspec's file system, for example s3.endpoint_url=http://localhost:9000 or s3.anon=true",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep copies of remote shards here")
    parser.add_argument(
        "--cache-gb",
        type=float,
        default=DEFAULT_ACCESS.cache_gb,
        metavar="GB",
        help="bound on the copies (default: 50)",
    )


def read_access(storage: Sequence[str], cache: Path | None = None, cache_gb: float = 50.0) -> AccessPlan:
    """What the options say; UserError names one that cannot be read."""
    if cache_gb <= 0:
        raise UserError(f"--cache-gb {cache_gb}: must be above 0")
    options: dict[str, dict[str, Any]] = {}
    for word in storage:
        name, equals, text = word.partition("=")
        protocol, *keys = name.split(".")
        if not equals or not protocol or not keys or not all(keys):
            raise UserError(f"--storage {word!r}: write it as PROTOCOL.KEY=VALUE, for example s3.anon=true")
        place = options.setdefault(protocol, {})
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        try:
            place[keys[-1]] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--storage {word!r}: the value is not valid YAML") from error
    return AccessPlan(storage=options, cache=str(cache.resolve()) if cache else "", cache_gb=cache_gb)
