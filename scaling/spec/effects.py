"""What a study writes and none of its runs has or uses: it would do nothing without a word, so it is refused."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from scaling.errors import shown
from scaling.spec.document import Document, KeyPath
from scaling.spec.rules import Has, refuse_idle
from scaling.spec.study import Study, check_setting

LATER = "grid, zip, include or overrides"
"""What a study lays over its defaults and its protocol."""

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


def check_effects(study: Study, document: Document, runs: Sequence[Has]) -> None:
    """`refuse_idle` for what the study writes and none of its `runs` has or uses. What a recipe says besides is no
    concern: the study may have taken another optimiser."""
    _refuse_idle_options(study, document, runs)
    tune = study.tune
    searched: Mapping[str, Any] = {**tune.space, **tune.set} if tune else {}
    for name, (other, words, is_used) in USED_WITH.items():
        if other in searched or any(is_used(has(other)) for has in runs):
            continue
        for place in _places(study, name):
            refuse_idle(document, place, f"it counts only with {other}: {words}, and no run has that")


def _refuse_idle_options(study: Study, document: Document, runs: Sequence[Has]) -> None:
    """The same for a default or protocol field of `--set` that every run overrides. In a file such a value may be what
    axes are laid over; an option is meant to change something."""
    for section, prefix, fields in (("defaults", "", study.defaults), ("protocol", "protocol.", dict(study.protocol))):
        for name, value in fields.items():
            place = (section, name)
            if document.is_option(place):
                wanted = value if prefix else check_setting(document, place, name, value)
                if all(has(prefix + name) != wanted for has in runs):
                    written = shown(document.data[section][name])
                    refuse_idle(document, place, f"{written}, and every run has another value, of {LATER}")


def _places(study: Study, name: str) -> Iterator[KeyPath]:
    """Where a study writes a setting."""
    written: list[tuple[KeyPath, Iterable[str]]] = [
        (("defaults",), study.defaults),
        (("grid",), study.grid),
        (("zip",), study.zip),
        *((("include", i), extra) for i, extra in enumerate(study.include)),
        *((("overrides", i, "set"), rule.set) for i, rule in enumerate(study.overrides)),
    ]
    if study.tune:
        written += [(("tune", "space"), study.tune.space), (("tune", "set"), study.tune.set)]
    return ((*place, name) for place, names in written if name in names)
