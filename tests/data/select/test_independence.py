"""`scaling.data.select` imports NumPy, the standard library and the one error; its random streams are fixed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import scaling
import scaling.data.select
from scaling.data.select.random_streams import RandomStream, generator

FOLDER = Path(scaling.data.select.__file__).parent

OURS = {"scaling", "scaling.data", "scaling.data.select", "scaling.errors"}

PRINT_LOADED = "import numpy.random, sys; before = set(sys.modules); import {}; print(*set(sys.modules) - before)"
"""Modules that an import adds to NumPy's own, which bring those of Cython."""


def test_a_fresh_interpreter_loads_numpy_and_nothing_else() -> None:
    modules = {f"scaling.data.select.{path.stem}" for path in FOLDER.glob("*.py") if path.stem != "__init__"}
    assert len(modules) > 4
    code = PRINT_LOADED.format(", ".join(sorted(modules)))
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert {name for name in loaded if name.split(".")[0] == "scaling"} <= OURS | modules
    assert {name.split(".")[0] for name in loaded} <= {*sys.stdlib_module_names, "numpy", "scaling"}


def test_random_streams_keep_their_numbers() -> None:
    names = [
        "SUBSET",
        "SHARD_ORDER",
        "WINDOW_ORDER",
        "AUGMENTATION",
        "MODEL",
        "RANDAUGMENT",
        "MIXUP",
        "HELD_OUT",
        "SEARCH",
        "VTAB",
    ]
    assert {stream.name: int(stream) for stream in RandomStream} == {name: n for n, name in enumerate(names, 1)}


def test_streams_of_one_seed_differ_and_a_stream_is_its_number() -> None:
    draws = {stream: generator(3, stream).integers(2**63) for stream in RandomStream}
    assert len(set(draws.values())) == len(RandomStream)
    plain = np.random.Generator(np.random.Philox(np.random.SeedSequence([3, 1])))
    assert plain.integers(2**63) == draws[RandomStream.SUBSET]


def test_no_other_module_numbers_a_stream_by_hand() -> None:
    files = Path(scaling.__file__).parent.rglob("*.py")
    pattern = re.compile(r"^\w+_STREAM\b.*=", re.MULTILINE)
    assert not [path.name for path in files if pattern.search(path.read_text())]
