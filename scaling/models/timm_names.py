"""Which models timm has, read from its source, since importing timm would load PyTorch.

A test compares the names with timm's own list. `NAME.TAG` names pre-trained weights of a model; tags are not checked.
"""

import functools
import importlib.util
import re
from difflib import get_close_matches
from pathlib import Path

from scaling.errors import UserError, shown

TIMM_PREFIX = "timm:"

_MODEL = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
_RENAMED = re.compile(r"^\s*['\"](\w+)['\"]:", re.MULTILINE)
_RENAMINGS = "register_model_deprecations(__name__"


def is_timm_name(name: str) -> bool:
    """Whether `name` is written `timm:NAME`, whatever NAME is."""
    return name.startswith(TIMM_PREFIX) and len(name) > len(TIMM_PREFIX)


def check_timm_name(name: str) -> None:
    """Refuse a `timm:NAME` that timm does not have with `UserError`, which names near ones."""
    wanted = name.removeprefix(TIMM_PREFIX).partition(".")[0]
    if wanted in timm_models() or wanted in _renamed():
        return
    near = get_close_matches(wanted[:100], sorted(timm_models()), n=3, cutoff=0.5)
    hint = f"near ones: {', '.join(near)}" if near else "timm.list_models() lists them"
    raise UserError(f"model {shown(name)}: timm has no such model; {hint}")


@functools.cache
def timm_models() -> frozenset[str]:
    """The names of `timm.list_models()`."""
    return frozenset(name for text in _sources() for name in _MODEL.findall(text))


@functools.cache
def _renamed() -> frozenset[str]:
    """Old names that timm still takes."""
    tables = [text.partition(_RENAMINGS)[2] for text in _sources()]
    return frozenset(name for table in tables for name in _RENAMED.findall(table))


@functools.cache
def _sources() -> tuple[str, ...]:
    found = importlib.util.find_spec("timm")
    if found is None or found.origin is None:
        raise UserError("timm is not installed; install it again with 'pip install timm'")
    folder = Path(found.origin).parent / "models"
    return tuple(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
