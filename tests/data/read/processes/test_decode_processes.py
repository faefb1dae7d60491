"""Decode processes: batches, counts and errors are those of threads, and no death of anybody leaves anything."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.images.transforms import AUGMENTATIONS, EVAL_TRANSFORMS, Augmentation
from scaling.data.read.loader import Batch, EvalLoader, TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.data.select.subset import select_subset
from scaling.data.storage.integrity import CorruptSampleError
from scaling.errors import LostDecoderError, UserError
from scaling.train.processes.failures import classify
from tests.support.damaged_data import write_damaged
from tests.support.http_server import serve
from tests.support.process_tree import END_SECONDS, await_end, await_only_used, children, inodes

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecodeProcesses]:
    with DecodeProcesses(2, 3) as processes:
        yield processes


def train(manifest: Manifest, count: int, processes: DecodeProcesses | None = None, **options: Any) -> list[Batch]:
    chosen = {"seed": 0, "batch": 24, "image_size": 16, "augment": "inception", "fraction": 1.0} | options
    source, subset = chosen.pop("source", None), select_subset(manifest, chosen.pop("fraction"), 0)
    loader = TrainLoader(source or PixelSource(manifest), subset, processes=processes, **chosen)
    with closing(iter(loader)) as batches:
        return list(itertools.islice(batches, count))


def flipping(manifest: Manifest, processes: DecodeProcesses) -> TrainLoader:
    """Of batches that take some time to decode."""
    subset = select_subset(manifest, 1.0, 0)
    return TrainLoader(
        PixelSource(manifest), subset, seed=0, batch=64, image_size=32, augment="flip", processes=processes
    )


def same(first: list[Batch], second: list[Batch]) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
        assert one.images.stride() == other.images.stride()
        assert (one.position, one.corrupt) == (other.position, other.corrupt)


def forked(parent_id: int) -> list[int]:
    """The decode processes, once they are there."""
    deadline = time.monotonic() + END_SECONDS
    while len(found := children(parent_id)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@FEW
@given(data=st.data())
def test_training_batches_are_those_of_threads(data: st.DataObject, tiny_data: Path, decoders: DecodeProcesses) -> None:
    """Over ranks, resume positions, augmentations, permutations and sizes of batches, also beyond one chunk."""
    world = data.draw(st.sampled_from([1, 2, 3]))
    size = data.draw(st.integers(1, 40))
    kind = data.draw(st.sampled_from(AUGMENTATIONS))
    permutation = np.array(data.draw(st.permutations(range(size * size)))) if data.draw(st.booleans()) else None
    options = {
        "rank": data.draw(st.integers(0, world - 1)),
        "world": world,
        "batch": world * data.draw(st.integers(1, 70)),
        "fraction": data.draw(st.sampled_from([0.3, 1.0])),
        "start_position": data.draw(st.integers(0, 10**6)),
        "seed": data.draw(st.integers(0, 2**32)),
        "image_size": size,
        "augment": Augmentation(kind, *data.draw(st.sampled_from([(0, 0.0), (2, 9.0)])), size + 3),
        "permutation": permutation,
    }
    manifest = load_manifest(tiny_data / "train.json")
    same(train(manifest, 4, **options, threads=2), train(manifest, 4, decoders, **options))


@FEW
@given(
    batch=st.integers(1, 90),
    size=st.integers(1, 40),
    transform=st.sampled_from(EVAL_TRANSFORMS),
    rank=st.integers(0, 2),
    chosen=st.none() | st.sets(st.integers(0, 79)),
)
def test_evaluation_batches_are_those_of_threads(
    batch: int,
    size: int,
    transform: str,
    rank: int,
    chosen: set[int] | None,
    tiny_data: Path,
    decoders: DecodeProcesses,
) -> None:
    samples = None if chosen is None else np.array(sorted(chosen), dtype=np.int64)
    options: dict[str, Any] = {"batch": batch, "image_size": size, "transform": transform, "samples": samples}
    options |= {"rank": rank, "world": 3}
    source = PixelSource(load_manifest(tiny_data / "val.json"))
    expected = list(EvalLoader(source, **options))
    for cache_bytes in (0, 2**30):
        loader = EvalLoader(source, **options, cache_bytes=cache_bytes, processes=decoders)
        same(expected, list(loader))
        same(expected, list(loader))


@pytest.mark.parametrize("max_corrupt", [0, 2, 3])
def test_unusable_samples_are_counted_and_replaced_as_by_threads(
    max_corrupt: int, tiny_data: Path, tmp_path: Path, decoders: DecodeProcesses
) -> None:
    manifest = write_damaged(tiny_data, tmp_path)
    for world in (1, 2):
        options = {"max_corrupt": max_corrupt, "rank": world - 1, "world": world, "known_corrupt": [(1, 0)]}
        outcomes = [outcome(lambda: train(manifest, 20, processes, **options)) for processes in (None, decoders)]  # noqa: B023
        if isinstance(outcomes[0], Exception):
            assert isinstance(outcomes[1], CorruptSampleError)
            # Which sample is one too many hangs on threads; Pillow names an object's address.
            told = [re.sub(r"sample '\w+'|shard-\w+|\d+ unusable|0x\w+", "", str(one)) for one in outcomes]
            assert told[0] == told[1]
        else:
            same(*outcomes)


def outcome(make: Callable[[], list[Batch]]) -> Any:
    try:
        return make()
    except UserError as error:
        return error


def test_trouble_of_a_shard_is_told_as_by_threads(tiny_data: Path, tmp_path: Path, decoders: DecodeProcesses) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    manifest = load_manifest(tmp_path / "data" / "train.json")
    for path in (tmp_path / "data" / "train").iterdir():
        path.unlink()
    here, there = (outcome(lambda: train(manifest, 1, processes)) for processes in (None, decoders))  # noqa: B023
    assert type(here) is type(there) is UserError
    assert str(there).split("shard-")[0] == str(here).split("shard-")[0]
    assert isinstance(there.__cause__, FileNotFoundError) and classify(there) is classify(here)


def test_remote_shards_are_fetched_once_for_all_processes(tiny_data: Path, decoders: DecodeProcesses) -> None:
    """Without a cache folder too, when copies are kept in a temporary one."""
    local = load_manifest(tiny_data / "train.json")
    with serve(tiny_data) as server:
        remote = load_manifest(f"{server.url}/train.json")
        same(train(local, 20), train(remote, 20, decoders))
    assert all(count == 1 for name, count in server.gets.items() if name.endswith(".tar"))


def test_buffers_are_used_again_and_kept_batches_stay(tiny_data: Path) -> None:
    manifest = load_manifest(tiny_data / "train.json")
    with DecodeProcesses(1, 2) as processes:
        with closing(iter(flipping(manifest, processes))) as batches:
            for _ in range(60):
                next(batches)
            # Far from 60: what is in use, waits for its turn, or is being filled.
            assert os.fstat(processes.memory.descriptor).st_size < 20 * 64 * 3 * 32 * 32
        kept = train(manifest, 30, processes)
    same(train(manifest, 30), kept)


def test_signals_for_the_whole_run_pass_decode_processes_by(tiny_data: Path, decoders: DecodeProcesses) -> None:
    manifest = load_manifest(tiny_data / "train.json")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        for process_id in (decoders.parent_id, *forked(decoders.parent_id)):
            os.kill(process_id, number)
    same(train(manifest, 3), train(manifest, 3, decoders))


@pytest.mark.parametrize("victim", ["a decode process", "their parent"])
def test_a_killed_decode_process_ends_loading_with_one_sentence(victim: str, tiny_data: Path) -> None:
    manifest = load_manifest(tiny_data / "train.json")
    with DecodeProcesses(2, 2) as processes:
        everyone = [processes.parent_id, *forked(processes.parent_id)]
        with closing(iter(flipping(manifest, processes))) as batches:
            next(batches)
            os.kill(everyone[1 if victim == "a decode process" else 0], signal.SIGKILL)
            if victim == "a decode process":
                with pytest.raises(LostDecoderError, match=r"^a decode process was ended by SIGKILL; .*$"):
                    for _ in range(1000):
                        next(batches)
            else:
                next(batches)  # Those who work are there.
    await_end(everyone)


LOADING = """
import sys, time
from pathlib import Path
from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset

manifest = load_manifest(Path(sys.argv[1]))
processes = DecodeProcesses(2, 2)
subset = select_subset(manifest, 1.0, 0)
loader = TrainLoader(
    PixelSource(manifest), subset, seed=0, batch=8, image_size=8, augment="flip", processes=processes
)
for batch in loader:
    print(processes.parent_id, flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_death_of_who_asks_leaves_no_process_and_no_file(end: signal.Signals, tiny_data: Path) -> None:
    before = inodes("/dev/shm")
    command = [sys.executable, "-c", LOADING, str(tiny_data / "train.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as asker:
        assert asker.stdout is not None
        parent = int(asker.stdout.readline())
        everyone = [parent, *forked(parent)]
        asker.send_signal(end)
        asker.stdout.close()
        asker.wait(END_SECONDS)
    await_end(everyone)
    await_only_used("/dev/shm", before)
