"""`scaling.data.select` stands alone: NumPy, the standard library and the one error; and its random streams are fixed."""

import subprocess
import sys
from pathlib import Path

import numpy as np

import scaling.data.select
from scaling.data.select.random_streams import RandomStream, generator

FOLDER = Path(scaling.data.select.__file__).parent

ALLOWED = ("scaling.data.select", "scaling.errors")


def test_a_fresh_interpreter_loads_numpy_and_nothing_else() -> None:
    modules = [f"scaling.data.select.{path.stem}" for path in FOLDER.glob("*.py") if path.stem != "__init__"]
    assert len(modules) > 4
    code = (
        f"import numpy, sys; before = set(sys.modules); import {', '.join(modules)}; print(*set(sys.modules) - before)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    ours = {name for name in loaded if name.split(".")[0] == "scaling"}
    assert all(name in ("scaling", "scaling.data") or name.startswith(ALLOWED) for name in ours)
    others = {name.split(".")[0] for name in loaded - ours}
    assert others <= set(sys.stdlib_module_names) | {"numpy"}, others - set(sys.stdlib_module_names)


def test_random_streams_keep_their_numbers() -> None:
    assert {stream.name: int(stream) for stream in RandomStream} == {
        "SUBSET": 1,
        "SHARD_ORDER": 2,
        "WINDOW_ORDER": 3,
        "AUGMENTATION": 4,
        "MODEL": 5,
        "RANDAUGMENT": 6,
        "MIXUP": 7,
    }


def test_streams_of_one_seed_differ_and_a_stream_is_its_number() -> None:
    draws = {stream: generator(3, stream).integers(2**63) for stream in RandomStream}
    assert len(set(draws.values())) == len(RandomStream)
    plain = np.random.Generator(np.random.Philox(np.random.SeedSequence([3, 1])))
    assert plain.integers(2**63) == draws[RandomStream.SUBSET]


def test_no_other_module_numbers_a_stream_by_hand() -> None:
    root = Path(scaling.__file__).parent
    found = [
        path.name for path in root.rglob("*.py") if "_STREAM =" in path.read_text() or "_STREAM," in path.read_text()
    ]
    assert not found
