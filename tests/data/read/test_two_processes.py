"""Two real processes that meet over gloo: what they read together is what one process reads alone."""

import hashlib
import itertools
from pathlib import Path

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as processes

from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset

STEPS = 15
BATCH = 24
"""15 batches of 24 cross the edge of an epoch of 120 samples twice and never fall on it."""


def views(manifest_path: Path, rank: int, world: int, first_step: int = 0) -> list[list[str]]:
    """Names of the views in this rank's share of each step's batch."""
    source = PixelSource(load_manifest(manifest_path))
    loader = TrainLoader(
        source,
        select_subset(source.manifest, 0.6, 0),
        seed=3,
        batch=BATCH,
        image_size=16,
        augment="inception",
        rank=rank,
        world=world,
        threads=1 + rank,
        start_position=first_step * BATCH,
    )
    parts = itertools.islice(loader, STEPS - first_step)
    return [[hashlib.sha1(view.numpy().tobytes()).hexdigest() for view in part.images] for part in parts]


def read_together(rank: int, manifest_path: Path, meeting_place: str, answer: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting_place, rank=rank, world_size=2)
    mine = views(manifest_path, rank, 2)
    gathered: list[list[list[str]] | None] = [None, None]
    distributed.all_gather_object(gathered, mine)
    if rank == 0:
        torch.save(gathered, answer)
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def gathered(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[list[str]]]:
    folder = tmp_path_factory.mktemp("gloo")
    answer = folder / "answer.pt"
    processes.spawn(read_together, (tiny_data / "train.json", f"file://{folder}/meet", answer), nprocs=2)
    result: list[list[list[str]]] = torch.load(answer, weights_only=True)
    return result


def test_together_they_hold_the_batches_of_one_process(gathered: list[list[list[str]]], tiny_data: Path) -> None:
    alone = views(tiny_data / "train.json", 0, 1)
    for step, (first, second, whole) in enumerate(zip(*gathered, alone, strict=True)):
        assert [view for pair in zip(first, second, strict=True) for view in pair] == whole, f"step {step}"


def test_a_restart_on_another_number_of_processes_continues(gathered: list[list[list[str]]], tiny_data: Path) -> None:
    """Two processes stop after 7 steps; one goes on, then three."""
    for world in (1, 3):
        ranks = [views(tiny_data / "train.json", rank, world, first_step=7) for rank in range(world)]
        for step in range(7, STEPS):
            together = {view for rank in ranks for view in rank[step - 7]}
            assert together == set(gathered[0][step]) | set(gathered[1][step])
