"""Which models exist. No torch here, so that planning can check names, sizes and options.

The papers' families are built in; others come from the entry-point group `scaling.models` (an entry point
names a `Family`) or from `register_family`. Any timm model is reachable as `timm:NAME`.
"""

import functools
from collections.abc import Mapping
from typing import Any

from scaling.errors import UserError, did_you_mean, shown
from scaling.installed import load_installed
from scaling.models.family import Family, ModelSpec
from scaling.models.timm_names import check_timm_name, is_timm_name
from scaling.models.zoo import PAPER_FAMILIES

ENTRY_POINT_GROUP = "scaling.models"


@functools.cache
def _families() -> dict[str, Family]:
    families = {family.name: family for family in PAPER_FAMILIES}
    for family in load_installed(ENTRY_POINT_GROUP, Family).values():
        _add(families, family)
    return families


def _add(families: dict[str, Family], family: Family) -> None:
    names = {spec.name for spec in family.models}
    for other in families.values():
        for spec in other.models:
            if other.name != family.name and spec.name in names:
                raise UserError(
                    f"model {spec.name!r} of family {family.name!r} already belongs to family {other.name!r}; "
                    "rename one of them"
                )
    families[family.name] = family


@functools.cache
def _models() -> dict[str, tuple[Family, ModelSpec]]:
    """Every model with its family, by name."""
    return {spec.name: (family, spec) for family in _families().values() for spec in family.models}


def register_family(family: Family) -> None:
    """Add `family` for this process, or replace the one of the same name.

    Runs are planned and trained in processes of their own; for those, declare the family as an entry point of
    the group `scaling.models` in an installed package.
    """
    _add(_families(), family)
    _models.cache_clear()


def list_models() -> tuple[str, ...]:
    """All names but `timm:NAME`, in the order of the papers' tables."""
    return tuple(_models())


def find_model(name: str) -> tuple[Family, ModelSpec]:
    """The family and the specification behind `name`; `UserError` with the nearest name if there is none."""
    found = _models().get(name)
    if found:
        return found
    hint = did_you_mean(name.lower(), list_models())
    raise UserError(f"model {shown(name)} is not known; {hint} (`timm:NAME` takes any model of timm)")


def check_name(name: str) -> None:
    """Refuse an unknown `name` with `UserError`."""
    if is_timm_name(name):
        check_timm_name(name)
    else:
        find_model(name)


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Refuse options that the family of `name` does not have, or values they cannot take, with `UserError`."""
    if not is_timm_name(name):
        find_model(name)[0].options.read(name, options)


def chosen_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options without those that have the value that the family of `name` gives them anyway. `UserError` as of
    `check_options`; those of timm, whose defaults only timm knows, stay."""
    if is_timm_name(name):
        return dict(options)
    kind = find_model(name)[0].options
    read = kind.read(name, options)
    usual = kind()
    return {key: value for key, value in options.items() if getattr(read, key) != getattr(usual, key)}


def family_of(name: str) -> str:
    """`mixer` for `mixer-b/32`; `timm` for `timm:NAME`."""
    return "timm" if is_timm_name(name) else find_model(name)[0].name


def default_image_size(name: str) -> int:
    """Native input side in pixels; `UserError` for `timm:NAME`, whose size only timm knows."""
    if is_timm_name(name):
        raise UserError(f"image_size of model {name!r} is not known before it is built; give it, for example 224")
    return find_model(name)[1].image_size


def patch_size_of(name: str) -> int | None:
    """Pixels a side of the patches that a model cuts images into; None where it cuts none or only timm knows."""
    if is_timm_name(name):
        return None
    return getattr(find_model(name)[1].shape, "patch_size", None)
