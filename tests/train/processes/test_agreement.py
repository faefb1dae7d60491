"""What the first process found is what all processes go by, whatever they would have found themselves."""

import json
from pathlib import Path

import pytest
import torch

from tests.support.ranks import codes, start

VALUES = [None, 3, {"digests": {"a": "0" * 64}, "steps": [1, 2.5, None]}, "é" * 70_000, []]


def hear(out: Path) -> None:
    from scaling.train.processes.agreement import send, tell
    from scaling.train.processes.process_group import join_processes

    with join_processes() as processes:
        told = [tell(value if processes.is_first else {"its": "own"}, processes) for value in VALUES]
        sums = []
        for dtype in (torch.float32, torch.bfloat16, torch.int64):
            tensor = torch.arange(12).reshape(3, 4).T.to(dtype) if processes.is_first else None
            got = send(tensor, [4, 3], dtype, processes)
            assert got.dtype is dtype and got.shape == (4, 3)
            sums.append(got.double()[1].tolist())
        assert processes.any(processes.rank == processes.world - 1) and not processes.any(False)
        (out / f"{processes.rank}.json").write_text(json.dumps([told, sums]))


@pytest.mark.parametrize("world", [1, 3])
def test_every_process_hears_the_same(world: int, tmp_path: Path) -> None:
    assert codes(start(hear, tmp_path, world=world)) == [0] * world
    expected = [VALUES, [[1.0, 5.0, 9.0]] * 3]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)] == [expected] * world
