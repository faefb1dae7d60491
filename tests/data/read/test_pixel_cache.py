"""Memory of decoded images that processes share: what comes out went in, whoever dies, and never more than allowed."""

import itertools
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.images.transforms import Augmentation
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixel_cache import DecodedSample, SharedPixels
from scaling.data.read.pixels import PixelSource
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.data.select.subset import select_subset
from tests.data.read.processes.test_decode_processes import same, train
from tests.support.damaged_data import write_damaged


@pytest.fixture
def manifest(tiny_data: Path) -> Manifest:
    return load_manifest(tiny_data / "train.json")


samples = st.builds(
    lambda shape, value, labels: DecodedSample(np.full((*shape, 3), value, np.uint8), labels),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 255),
    st.lists(st.integers(0, 2**31), max_size=20),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 39)), samples, max_size=30),
    max_bytes=st.integers(0, 40_000),
)
def test_what_was_kept_is_recalled_through_every_opening_within_the_bound(
    kept: dict[tuple[int, int], DecodedSample], max_bytes: int, manifest: Manifest
) -> None:
    first = SharedPixels.make(manifest, max_bytes)
    second = SharedPixels.open(manifest, first.address)
    assert second is not None
    for number, (place, sample) in enumerate(kept.items()):
        (first, second)[number % 2].remember(place, sample)
    num_found = 0
    for place, sample in kept.items():
        found = [cache.recall(place) for cache in (first, second)]
        assert (found[0] is None) == (found[1] is None)
        for one in found:
            if one is not None:
                assert np.array_equal(one.pixels, sample.pixels) and one.labels == sample.labels
        num_found += found[0] is not None
    assert first.used_bytes == second.used_bytes <= max_bytes
    if sum(sample.pixels.nbytes + 64 * 5 for sample in kept.values()) <= max_bytes:
        assert num_found == len(kept)


def test_another_file_or_process_is_not_taken_for_it(manifest: Manifest, tmp_path: Path) -> None:
    cache = SharedPixels.make(manifest, 2**20)
    assert SharedPixels.open(manifest, replace(cache.address, token=bytes(16))) is None
    assert SharedPixels.open(manifest, replace(cache.address, process=2**22 + 1)) is None
    assert SharedPixels.open(manifest, replace(cache.address, descriptor=2**20)) is None


@pytest.mark.parametrize("cache_bytes", [0, 50_000, 2**30])
def test_batches_are_the_same_with_a_shared_memory_of_any_size(
    cache_bytes: int, tiny_data: Path, tmp_path: Path
) -> None:
    """Over several sources, as of the ranks of a node, and decode processes; with the same stand-ins for damage."""
    manifest = write_damaged(tiny_data, tmp_path)
    expected = train(manifest, 20, max_corrupt=3)
    shared = SharedPixels.make(manifest, cache_bytes)
    sources = [PixelSource(manifest, shared=SharedPixels.open(manifest, shared.address)) for _ in range(2)]
    for source in sources:
        same(expected, train(manifest, 20, max_corrupt=3, source=source, threads=2))
    shared = SharedPixels.make(manifest, cache_bytes)
    with DecodeProcesses(2, 3) as processes:
        for _ in range(2):
            source = PixelSource(manifest, shared=shared)
            same(expected, train(manifest, 20, processes, max_corrupt=3, source=source))
    assert (shared.used_bytes > 0) == (cache_bytes > 0)


def test_decode_processes_find_the_memory_for_as_long_as_the_loader_lives(
    manifest: Manifest, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where nobody else keeps it. Otherwise every process would decode for itself."""
    subset, options = select_subset(manifest, 1.0, 0), {"seed": 0, "batch": 24, "image_size": 16}
    with DecodeProcesses(2, 2) as processes:
        source = PixelSource(manifest, shared=SharedPixels.make(manifest, 2**30))
        loader = TrainLoader(source, subset, augment="inception", processes=processes, **options)
        del source
        with closing(iter(loader)) as batches:
            list(itertools.islice(batches, 20))
    assert "not shared" not in capfd.readouterr().err


def test_what_one_process_decoded_no_other_decodes(manifest: Manifest) -> None:
    """Also where the shards are gone meanwhile, as they are asked for nothing."""
    shared = SharedPixels.make(manifest, 2**30)
    source = PixelSource(manifest, shared=shared)
    whole = [source.get(shard, index) for shard in range(5) for index in range(40)]
    nowhere = replace(manifest, folder=Path("/nonexistent"))
    other = PixelSource(nowhere, shared=SharedPixels.open(nowhere, shared.address))
    again = [other.get(shard, index) for shard in range(5) for index in range(40)]
    assert all(np.array_equal(*pair) for pair in zip((w.pixels for w in whole), (a.pixels for a in again), strict=True))
    assert [one.labels for one in whole] == [one.labels for one in again]


def test_a_memory_that_is_full_is_told_once(manifest: Manifest, caplog: pytest.LogCaptureFixture) -> None:
    whole = Augmentation("none")
    image_bytes = PixelSource(manifest).get(0, 0).pixels.nbytes
    with caplog.at_level("INFO"):
        for room in (0, 40, 3):
            source = PixelSource(manifest, cache_bytes=room * image_bytes)
            for index in range(40):
                source.get(0, index, partial(whole.crop, []))
            assert len(caplog.records) == (room == 3)
    assert "launch.pixel_cache" in caplog.text


FILLING = """
import sys
from pathlib import Path
import numpy as np
from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.pixel_cache import Address, DecodedSample, SharedPixels

manifest = load_manifest(Path(sys.argv[1]))
process, descriptor, max_bytes = (int(word) for word in sys.argv[2:5])
cache = SharedPixels.open(manifest, Address(process, descriptor, bytes.fromhex(sys.argv[5]), max_bytes))
print("filling", flush=True)
while True:
    for place in np.random.default_rng().permutation(200).tolist():
        pixels = np.full((100, 200 + place, 3), place, np.uint8)
        cache.remember((place // 40, place % 40), DecodedSample(pixels, [place]))
        found = cache.recall((place // 40, place % 40))
        assert found is None or ((found.pixels == place).all() and found.labels == [place])
"""


def test_whoever_is_killed_while_filling_leaves_no_half_of_an_image(tiny_data: Path, manifest: Manifest) -> None:
    for patience in np.linspace(0, 0.05, 6).tolist():
        cache = SharedPixels.make(manifest, 2**26)
        address = [cache.address.process, cache.address.descriptor, cache.address.max_bytes, cache.address.token.hex()]
        command = [sys.executable, "-c", FILLING, str(tiny_data / "train.json"), *map(str, address)]
        fillers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for filler in fillers:
            assert filler.stdout is not None
            assert filler.stdout.readline() == b"filling\n"
        time.sleep(patience)
        for filler in fillers:
            assert filler.poll() is None
            filler.send_signal(signal.SIGKILL)
            filler.communicate()
        for place in range(200):
            found = cache.recall((place // 40, place % 40))
            assert found is None or ((found.pixels == place).all() and found.labels == [place])
            # Nobody holds the lock, and what was not kept can be.
            cache.remember((place // 40, place % 40), DecodedSample(np.full((1, 1, 3), place, np.uint8), [place]))
            assert cache.recall((place // 40, place % 40)) is not None
