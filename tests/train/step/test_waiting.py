"""How often a step waits for the device: counted by the operations that would make a GPU's host wait."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scaling.records.run_plan import RunPlan
from tests.support.ranks import codes, start

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "_unique2", "equal", "index.Tensor")
"""Names of operations whose answer, or whose shape, the host must know before it goes on. An index is one when it is
made of truth values."""


class Waits(TorchDispatchMode):
    """Counts them while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        name = func.__name__
        is_index = name.startswith("index") and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name.split(".")[0] in WAITING or is_index:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_waits(run_dir: Path, expected: dict[int, int]) -> None:
    """A few steps of every ZeRO stage in one process."""
    from scaling.train.averages import Tally
    from scaling.train.processes.process_group import join_processes
    from scaling.train.scoring import build_planned
    from scaling.train.step.engine import build_engine
    from scaling.train.step.rules import plan_batching

    plan = RunPlan.load(run_dir)
    images = torch.zeros(16, 3, 32, 32, dtype=torch.uint8)
    labels = torch.zeros(16, 2, dtype=torch.int64)
    with join_processes() as processes:
        for zero_stage, most in expected.items():
            planned = plan.model_copy(update={"engine": plan.engine.model_copy(update={"zero_stage": zero_stage})})
            batching = plan_batching(plan.schedule.batch, processes.world, planned.engine.micro_batch)
            engine = build_engine(build_planned(plan.model), planned, batching, processes.device, 0)
            tally = Tally(processes.device, skip_non_finite=plan.engine.non_finite == "skip")
            for step in (1, 2, 3):
                with Waits() as waits:
                    loss, norm = engine.train_step(step, images, labels)
                    tally.add(step, loss, norm)
            assert waits.counts.total() <= most, (zero_stage, waits.counts)


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_a_step_waits_never_without_zero_and_at_most_once_with_it(non_finite: str, plan_tiny) -> None:
    options = (f"defaults.non_finite={non_finite}", "defaults.mixup=0.2", "defaults.micro_batch=8")
    (run,) = plan_tiny(*options, "defaults.head_weight_decay=2.0")
    assert codes(start(count_waits, run.run_dir, {0: 0, 1: 1, 2: 1}, world=1)) == [0]
