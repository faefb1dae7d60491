"""Named recipes: the papers' published hyper-parameters, per data set and model.

A recipe is a file `scaling/spec/recipes/NAME.yaml` with its source, settings of every run and settings of some
models. Everything that a study writes itself takes precedence: recipe < defaults < grid, zip and include < overrides.
Its name is no part of a run's identity; its values are. For a model without published values nothing is guessed: what
is missing must be written in the study.
"""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import yaml

from scaling.errors import UserError, did_you_mean
from scaling.records.run_plan import Frozen
from scaling.spec.settings import matches

_FOLDER = resources.files("scaling.spec") / "recipes"


class ModelRule(Frozen):
    """Settings of the models that fit."""

    match: dict[str, Any]
    set: dict[str, Any]


class Recipe(Frozen):
    source: str
    """Where the values stand."""
    settings: dict[str, Any]
    models: tuple[ModelRule, ...]


def recipe_names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The text of the recipe's file; UserError with the nearest name for an unknown one."""
    if name not in recipe_names():
        raise UserError(f"{name!r} is no recipe; {did_you_mean(name, recipe_names())}")
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


@functools.cache
def load_recipe(name: str) -> Recipe:
    return Recipe.model_validate(yaml.safe_load(recipe_text(name)))


def recipe_values(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's settings for the model of `given`, the settings that the study writes itself.

    UserError for an unknown name, and for a model that the recipe does not cover unless `given` holds every setting
    that the recipe has by model.
    """
    recipe = load_recipe(name)
    for rule in recipe.models:
        if matches(rule.match, given):
            return recipe.settings | rule.set
    by_model = sorted({setting for rule in recipe.models for setting in rule.set})
    missing = [setting for setting in by_model if setting not in given]
    if missing or not by_model:
        covered = ", ".join(str(model) for rule in recipe.models for model in _as_list(rule.match["model"]))
        way_out = f"write {' and '.join(missing)} in the study" if missing else "leave the recipe out"
        raise UserError(f"the recipe {name!r} covers {covered} and not {given.get('model')!r}; {way_out}")
    return dict(recipe.settings)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
