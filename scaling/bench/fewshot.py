"""How long the linear few-shot probe takes on given features, of the size of ImageNet, on one core.

    ours     `scaling.evals.ridge`: standardise, solve in closed form, score every test image, all in float64
    peer     the same standardised features in scikit-learn's `Ridge`, solved by Cholesky and scored in equal parts

The two take turns on one core and one thread, and change places from round to round. Features are made: classes of
normal noise about centres. Both have to score alike, or the figures mean nothing.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from scaling.bench.command import add_json, write_json
from scaling.bench.machine import describe_machine, ratio_summary
from scaling.errors import UserError
from scaling.launch.options import above_zero
from scaling.readable import plain_table

OURS, PEER = "scaling.evals.ridge", "scikit-learn Ridge"

LIBRARIES = ("numpy", "scipy", "scikit-learn")

L2 = 1024.0

SEPARATION = 0.15
"""Standard deviation of the centres where that of the noise is 1: neither hopeless nor solved."""

CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is solved and scored."""

    classes: int = 1_000
    shots: int = 25
    features: int = 1_024
    test_images: int = 50_000


IMAGENET = Sizes()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.epilog = "example:\n  python -m scaling.bench fewshot --rounds 5 --json fewshot.json"
    for name, value in asdict(IMAGENET).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=above_zero, default=value, metavar="N", help=f"default: {value:,}")
    parser.add_argument("--rounds", type=above_zero, default=3, help="default: 3")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    if importlib.util.find_spec("sklearn") is None:
        raise UserError("the probe is measured beside scikit-learn, which is not installed; add the extra 'bench'")
    sizes = Sizes(**{name: getattr(args, name) for name in asdict(IMAGENET)})
    if sizes.classes < 2:
        raise UserError("--classes 1: a probe tells classes apart; give at least 2")
    figures = measure_probe(sizes, args.rounds)
    rows = [
        [
            name,
            f"{statistics.median(one['cpu_seconds']):.2f}",
            f"{statistics.median(one['wall_seconds']):.2f}",
            f"{100 * one['top1']:.2f} %",
        ]
        for name, one in figures["solvers"].items()
    ]
    print(plain_table(["probe", "CPU s", "wall s", "top-1"], rows))
    ratio = figures["cpu_ratio"]
    print(
        f"\nCPU time beside {PEER}: x {ratio['median']:.2f} ({ratio['lower_quartile']:.2f}-"
        f"{ratio['upper_quartile']:.2f})\nlargest difference of a score: {figures['largest_difference']:.1e}"
    )
    write_json(figures, args.json)
    return 0


def measure_probe(sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Seconds of both probes in every round, their scores, and what they were measured on."""
    with _one_core():
        figures = _measure(sizes, rounds)
    return {
        **figures,
        "sizes": asdict(sizes),
        "l2": L2,
        "threads": 1,
        "machine": describe_machine(LIBRARIES),
    }


@contextmanager
def _one_core() -> Iterator[None]:
    """This process on one core, its linear algebra in one thread."""
    # Libraries of linear algebra have to be loaded to be limited: NumPy's and SciPy's.
    import numpy  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with threadpool_limits(1):
            yield
    finally:
        os.sched_setaffinity(0, cores)


def _measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    import numpy as np
    from sklearn.linear_model import Ridge

    from scaling.evals.ridge import BIAS_FEATURE, STD_FLOOR, fit_probe

    generator = np.random.default_rng(0)
    centres = SEPARATION * generator.standard_normal((sizes.classes, sizes.features), np.float32)

    def drawn(labels: Any) -> Any:
        return centres[labels] + generator.standard_normal((len(labels), sizes.features), np.float32)

    labels = np.repeat(np.arange(sizes.classes), sizes.shots)
    test_labels = np.arange(sizes.test_images) % sizes.classes
    support, test = drawn(labels), drawn(test_labels)

    def ours() -> tuple[float, Any]:
        probe = fit_probe(support, labels, sizes.classes, L2)
        return probe.accuracy(test, test_labels), lambda part: part.astype(np.float64) @ probe.weights + probe.bias

    def peer() -> tuple[float, Any]:
        exact = support.astype(np.float64)
        mean, std = exact.mean(axis=0), exact.std(axis=0) + STD_FLOOR

        def inputs(part: Any) -> Any:
            return np.c_[(part.astype(np.float64) - mean) / std, np.full(len(part), BIAS_FEATURE)]

        targets = np.where(labels[:, None] == np.arange(sizes.classes), 1.0, -1.0)
        solver = Ridge(alpha=L2, fit_intercept=False, solver="cholesky").fit(inputs(support), targets)
        parts = [slice(start, start + CHUNK) for start in range(0, len(test), CHUNK)]
        hits = [(solver.predict(inputs(test[part])).argmax(axis=1) == test_labels[part]).sum() for part in parts]
        return float(sum(hits)) / len(test), lambda part: solver.predict(inputs(part))

    return _take_turns({OURS: ours, PEER: peer}, rounds, test[:CHUNK])


def _take_turns(works: dict[str, Callable[[], tuple[float, Any]]], rounds: int, sample: Any) -> dict[str, Any]:
    """Seconds of each in every round, and how far the scores of the two lie apart on `sample`."""
    seconds: dict[str, dict[str, Any]] = {name: {"cpu_seconds": [], "wall_seconds": []} for name in works}
    scorers = {}
    for number in range(rounds):
        for name in sorted(works, reverse=bool(number % 2)):
            started = time.process_time(), time.perf_counter()
            seconds[name]["top1"], scorers[name] = works[name]()
            seconds[name]["cpu_seconds"].append(time.process_time() - started[0])
            seconds[name]["wall_seconds"].append(time.perf_counter() - started[1])
    one, other = (scorers[name](sample) for name in works)
    return {
        "solvers": seconds,
        "cpu_ratio": ratio_summary(seconds[OURS]["cpu_seconds"], seconds[PEER]["cpu_seconds"]),
        "largest_difference": float(abs(one - other).max()),
    }
