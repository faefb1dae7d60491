"""Data that a study can make for itself: built before planning when its manifests are missing, and compared with what
the study says when they are there.

The making is `python -m scaling.data make` in a process of its own, exactly as a person would run it; a study with
data of its own has no `make` and gets the missing manifest's name from planning.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from scaling.data.storage.remote import is_url
from scaling.errors import UserError, did_you_mean, shown
from scaling.records.reading import RecordError, read_object
from scaling.spec.study import Study

RECIPE = "recipe.json"
"""What `scaling.data make` writes down about the data in a folder."""

_OF_THE_MACHINE = "processes"
"""The setting of `scaling.data make` that does not change what is made."""


def ensure_data(study: Study) -> None:
    """Make the study's data when it says how and some manifest is missing."""
    data = study.data
    if data.make is not None and is_url(data.root):
        raise UserError(f"data.root {data.root}: data is made in folders only; make it there, copy it, drop data.make")
    if data.make is None:
        return
    if all((Path(data.root) / name).exists() for name in (data.train, data.val)):
        _compare(data.make, Path(data.root))
        return
    if not data.root:
        raise UserError(
            "data.make needs data.root, the folder to make the shards in; add for example root: data/jft-like"
        )
    command = [sys.executable, "-m", "scaling.data", "make", data.root]
    for name, value in data.make.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    print(f"making the data: python {' '.join(command[1:])}", file=sys.stderr)
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"data.make: the data could not be made in {data.root}; the reason stands above")


def _compare(wanted: Mapping[str, Any], root: Path) -> None:
    """UserError when the data in `root` was made with other settings than the study's would make: those that it names,
    and the defaults of the rest."""
    try:
        found = read_object(root / RECIPE)
    except (FileNotFoundError, RecordError):
        return  # data of another maker
    recipe = _recipe(wanted)
    for name in (*(name for name in wanted if name in recipe), *recipe):  # First what can be read in the study.
        if name not in found or recipe[name] != found[name]:
            there = shown(found[name]) if name in found else "none"
            told = shown(recipe[name]) if name in wanted else f"not written, so {shown(recipe[name])}"
            raise UserError(
                f"data.make.{name}: {told}, but the data in {root} was made with {there}; name another data.root for "
                "new data, or write what is there"
            )


def _recipe(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What `scaling.data make` would write down of these settings; UserError for one that it would refuse."""
    # The drawing comes with it, which no other study needs.
    from scaling.jft_like.config import JftLikeConfig

    defaults = JftLikeConfig().recipe()
    kinds: dict[str, type] = {field.name: type(defaults[field.name]) for field in fields(JftLikeConfig)}
    values = {}
    for name, value in wanted.items():
        if name == _OF_THE_MACHINE:
            continue
        if name not in kinds:
            raise UserError(f"data.make.{name}: unknown setting of 'scaling.data make'; {did_you_mean(name, kinds)}")
        try:
            values[name] = kinds[name](str(value))
        except ValueError as error:
            raise UserError(
                f"data.make.{name}: {shown(value)}: it is no {kinds[name].__name__}; write one such as {defaults[name]}"
            ) from error
    return JftLikeConfig(**values).recipe()
