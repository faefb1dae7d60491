"""A thread that decodes uses itself alone; what else computes in its process keeps its threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from scaling.data.format.load_manifest import load_manifest
from scaling.data.read import rows
from scaling.data.read.compute_alone import compute_alone
from scaling.data.read.loader import EvalLoader
from scaling.data.read.pixels import PixelSource


@pytest.fixture
def three_threads() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_only_the_calling_thread_is_alone(three_threads: object) -> None:
    with ThreadPoolExecutor(1, initializer=compute_alone) as alone, ThreadPoolExecutor(1) as later:
        assert alone.submit(torch.get_num_threads).result() == 1
        assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 3


def test_loaders_decode_so(three_threads: object, tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, view = [], rows.evaluate_view

    def watched(*arguments: object) -> torch.Tensor:
        found.append(torch.get_num_threads())
        return view(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(rows, "evaluate_view", watched)
    source = PixelSource(load_manifest(tiny_data / "val.json"))
    list(EvalLoader(source, batch=16, image_size=8, transform="whole", threads=2))
    assert len(found) == 80 and set(found) == {1}
