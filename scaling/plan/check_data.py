"""What manifests say about whether a study can be trained and scored, asked before anything is trained.

Classes of two data sets are compared by their names, in their order, since a model's outputs are numbered and a wrong
numbering would be scored in silence. Where a data set has numbers only, that is said, because it cannot be compared.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from typing import Any

import numpy as np

from scaling.data.format.manifest import Manifest
from scaling.plan.overlap import overlap_problem

logger = logging.getLogger(__name__)

MAX_NAMED = 3
"""Classes named in a message."""


class _EachOnce(logging.Handler):
    """Passes on what has not been said before."""

    def __init__(self, onward: logging.Logger) -> None:
        super().__init__()
        self._onward = onward
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() not in self._said:
            self._said.add(record.getMessage())
            self._onward.handle(record)


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Data that several evaluations use is warned of once."""
    with _handled_by(_EachOnce):
        yield


@contextmanager
def warnings_once_planned() -> Iterator[None]:
    """Holds the warnings of planning until the block has ended well, and gives each once: a sweep that is refused gets
    one sentence."""
    held = MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    with _handled_by(lambda onward: held):
        yield
    with _handled_by(_EachOnce):
        for record in held.buffer:
            _of_planning().handle(record)


@contextmanager
def _handled_by(make: Callable[[logging.Logger], logging.Handler]) -> Iterator[None]:
    """What planning logs goes to this handler alone, which is made with the logger that would have it otherwise."""
    planning = _of_planning()
    onward = planning.parent
    assert onward is not None
    handler = make(onward)
    planning.addHandler(handler)
    planning.propagate = False
    try:
        yield
    finally:
        planning.removeHandler(handler)
        planning.propagate = True


def _of_planning() -> logging.Logger:
    return logging.getLogger(__name__.rpartition(".")[0])


def class_problem(one: Manifest, other: Manifest, one_name: str, other_name: str) -> str | None:
    """Why two data sets do not share their classes, as a sentence; None when they do or cannot be compared."""
    if one.is_declared or other.is_declared or one.digest == other.digest:
        return None
    if not (one.has_class_names and other.has_class_names):
        if len(one.classes) == len(other.classes):
            nameless = [name for name, data in ((one_name, one), (other_name, other)) if not data.has_class_names]
            logger.warning(
                "the classes of %s and %s cannot be compared, because %s numbers only; give the same names to both "
                "with --classes FILE of 'python -m scaling.data index' or 'build'",
                one_name,
                other_name,
                " and ".join(nameless) + (" have" if len(nameless) > 1 else " has"),
            )
        return None
    if one.classes == other.classes:
        return None
    known, others = set(one.classes), set(other.classes)
    only = [
        f"{_some([name for name in names if name not in rest])} only in {where}"
        for names, rest, where in ((one.classes, others, one_name), (other.classes, known, other_name))
        if any(name not in rest for name in names)
    ]
    if only:
        told = "; ".join(only)
    else:
        number = next(k for k, pair in enumerate(zip(one.classes, other.classes, strict=True)) if pair[0] != pair[1])
        told = (
            f"the same names in another order: class {number} is {one.classes[number]!r} in {one_name} and "
            f"{other.classes[number]!r} in {other_name}"
        )
    return (
        f"the classes of {other_name} are not those of {one_name} ({told}); write it again with the class list of the "
        f"other, 'python -m scaling.data build SOURCE OUT --classes {one_name}' (index takes --classes too)"
    )


def warn_of_shared_shards(held_out: Manifest, other: Manifest, held_out_name: str, other_name: str) -> None:
    """Warn when a set that is to be held out is, or shares shards with, the one that is learned from."""
    if held_out.is_declared or other.is_declared:
        return
    shared = set(held_out.shard_sha256) & set(other.shard_sha256)
    if held_out.digest == other.digest or shared:
        logger.warning(
            "%s and %s hold the same images (%s): scores are of images that were learned from; give a held-out set",
            held_out_name,
            other_name,
            "one data set" if held_out.digest == other.digest else f"{len(shared)} of the shards are in both",
        )


def probe_problem(name: str, sources: Mapping[str, tuple[str, Manifest]], settings: Mapping[str, Any]) -> str | None:
    """Why an evaluation that learns from a `support` set and is scored on a `test` set cannot be computed, as a
    sentence; None when it can, for all that the manifests say. `sources` are (name, manifest) by role."""
    if not {"support", "test"} <= set(sources):
        return None
    for source, manifest in sources.values():
        if manifest.label_type != "single":
            return f"{name}: {source} is multi-label; give a set with one class per image"
    (support_name, support), (test_name, test) = sources["support"], sources["test"]
    if len(support.classes) != len(test.classes):
        return (
            f"{name}: {support_name} has {len(support.classes)} classes and {test_name} has {len(test.classes)}; "
            "support and test must share their classes"
        )
    problem = (
        class_problem(support, test, support_name, test_name)
        or _shots_problem(name, support_name, support, test, max(settings.get("shots", (0,)), default=0))
        or overlap_problem(support, test, support_name, test_name)
    )
    return f"{name}: {problem}" if problem else None


def _shots_problem(name: str, support_name: str, support: Manifest, test: Manifest, shots: int) -> str | None:
    """Why the support set is too small for the number of shots."""
    if support.class_counts is None:
        if not support.is_declared:
            logger.warning(
                "%s: %s does not say how many images each class has, so whether they are enough for %d shots is seen "
                "only after training; index, build or make it again",
                name,
                support_name,
                shots,
            )
        return None
    few = np.flatnonzero(support.class_counts < shots).tolist()
    if not few:
        return None
    rarest = min(few, key=lambda number: int(support.class_counts[number]))  # type: ignore[index]
    count = int(support.class_counts[rarest])
    tested = ", although the test set has it" if test.class_counts is not None and test.class_counts[rarest] else ""
    return (
        f"{len(few)} of {len(support.classes)} classes of {support_name} have fewer than {shots} images, such "
        f"as {support.classes[rarest]!r} with {count}{tested}; lower shots or give a larger support set"
    )


def subset_problem(manifest: Manifest, name: str, fraction: float, is_allowed: bool) -> str | None:
    """Why a subset of whole shards is no fair sample, as a sentence; None when it is one or is taken all the same."""
    unfair = unfair_spread(manifest, fraction)
    if unfair is None or is_allowed:
        return None
    return (
        f"label frequencies vary along the shards of {name} {unfair:.1f} times as much as by chance, so a subset of "
        f"{fraction:.3g} is no fair sample of its classes; write the data set in random order with 'python -m "
        "scaling.data build MANIFEST OUT', or say data.allow_unfair_subsets: true"
    )


def unfair_spread(manifest: Manifest, fraction: float) -> float | None:
    """How many times as much as by chance label frequencies vary along the shards, where that matters for a subset."""
    homogeneity = manifest.homogeneity
    if fraction >= 1 or homogeneity is None or homogeneity.is_fair:
        return None
    return homogeneity.spread


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more are" if len(names) > MAX_NAMED else " is" if len(names) == 1 else " are"
    return ", ".join(map(repr, names[:MAX_NAMED])) + more
