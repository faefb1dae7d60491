"""Settings that count only beside others: one that no run of its study uses is refused, as it would do nothing without
a word."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from scaling.spec.document import Document, KeyPath
from scaling.spec.rules import refuse_idle
from scaling.spec.settings import RunSettings
from scaling.spec.study import Study

USED_WITH: dict[str, tuple[str, str, Callable[[Any], bool]]] = {
    "momentum": ("optimizer", "sgd", lambda optimizer: optimizer == "sgd"),
    "betas": ("optimizer", "adam", lambda optimizer: optimizer == "adam"),
    "end_learning_rate": ("decay", "linear or cosine", lambda decay: decay in ("linear", "cosine")),
    "decay_factor": ("decay", "staircase", lambda decay: decay == "staircase"),
    "randaugment_magnitude": ("randaugment_layers", "1 or more", lambda layers: layers > 0),
    "permute_patch_size": ("permute", "patches_and_pixels", lambda permute: permute == "patches_and_pixels"),
}
"""Setting -> the one that it counts beside, and with what values, in words and as a test. Those that planning itself
refuses in the wrong company (decay_at, crop_from, exchange, overlap_comm) are not among them."""


def check_effects(study: Study, document: Document, runs: Sequence[RunSettings]) -> None:
    """`refuse_idle` for a setting that the study writes and none of its runs uses. What a recipe says besides is no
    concern: the study may have taken another optimiser."""
    tuned = {*study.tune.space, *study.tune.set} if study.tune else set()
    for name, (other, words, is_used) in USED_WITH.items():
        if other in tuned or any(is_used(getattr(run, other)) for run in runs):
            continue
        for place in _places(study, name):
            refuse_idle(document, place, f"it counts only with {other}: {words}, and no run has that")


def _places(study: Study, name: str) -> Iterator[KeyPath]:
    """Where a study writes a setting."""
    sections: list[KeyPath] = [("defaults",), ("grid",), ("zip",)]
    written = [section for section in sections if name in getattr(study, str(section[0]))]
    written += [("include", i) for i, extra in enumerate(study.include) if name in extra]
    written += [("overrides", i, "set") for i, rule in enumerate(study.overrides) if name in rule.set]
    return ((*place, name) for place in written)
