"""In which numbers a step is computed, where autocast is asked for as it is on CUDA."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from scaling.records.attempts.contract import DONE
from scaling.records.run_plan import RunPlan
from tests.support.ranks import codes, start, start_run
from tests.train.step.test_engine import batches, new_model


def answer_as_on_cuda() -> None:
    """Without an argument PyTorch tells of CUDA's autocast, which is how DeepSpeed asks; here, of the CPU's."""
    ask = torch.is_autocast_enabled
    torch.is_autocast_enabled = lambda device="cpu": ask(device)


def observe_dtypes(run_dir: Path, out: Path) -> None:
    """Of a Linear's output in the rehearsal and in a step, of gradients, and of the buckets they are reduced in."""
    from scaling.train.processes.process_group import join_processes
    from scaling.train.step.engine import build_engine
    from scaling.train.step.rules import plan_batching

    torch.set_num_threads(1)
    answer_as_on_cuda()
    plan = RunPlan.load(run_dir)
    with join_processes() as processes:
        batching = plan_batching(plan.schedule.batch, processes.world, plan.engine.micro_batch)
        engine = build_engine(new_model(plan), plan, batching, processes.device, processes.rank)
        linear = next(module for module in engine.model.body.modules() if isinstance(module, torch.nn.Linear))
        seen: list[str] = []
        linear.register_forward_hook(lambda module, inputs, output: seen.append(str(output.dtype)))
        (images, labels), *_ = batches(plan, processes.rank, processes.world)
        engine.rehearse(images, labels)
        rehearsed, seen[:] = list(seen), []
        engine.accumulate(1, images, labels)
        found = {"rehearsal": sorted(set(rehearsed)), "step": sorted(set(seen))}
        found["weights"] = sorted({str(p.dtype) for p in engine.model.parameters()})
        optimizer = engine.deepspeed_engine.optimizer
        if plan.engine.zero_stage == 0:
            found["exchanged"] = sorted({str(p.grad.dtype) for p in engine.model.parameters()})
        else:
            found["exchanged"] = sorted(str(dtype) for dtype in optimizer.ipg_buckets)
        engine.update(1)
        if processes.is_first:
            out.write_text(json.dumps(found))


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_step_computes_in_the_planned_precision(precision: str, zero_stage: int, plan_tiny, tmp_path: Path) -> None:
    (run,) = plan_tiny(f"defaults.precision={precision}", f"defaults.zero_stage={zero_stage}")
    out = tmp_path / "dtypes.json"
    assert codes(start(observe_dtypes, run.run_dir, out, world=2)) == [0, 0]
    used = ["torch.bfloat16" if precision == "bf16" else "torch.float32"]
    whole = ["torch.float32"]
    assert json.loads(out.read_text()) == {"rehearsal": used, "step": used, "weights": whole, "exchanged": whole}


def note_arithmetic(rank: int) -> None:
    """Print what holds when the first step is made."""
    from scaling.train.loop import Loop

    run = Loop.run

    def noting(self: Loop) -> bool:
        print("TF32", torch.backends.cudnn.allow_tf32, "same bits", torch.are_deterministic_algorithms_enabled())
        return run(self)

    Loop.run = noting  # type: ignore[method-assign]


def test_a_run_trains_as_its_plan_says(plan_tiny) -> None:
    (run,) = plan_tiny("defaults.deterministic=true", "protocol.steps=10")
    assert codes(start_run(run.run_dir, 1, note_arithmetic)) == [DONE]
    assert "TF32 False same bits True" in (run.run_dir / "log.txt").read_text()


def test_weights_that_are_scored_by_hand_are_scored_in_whole_fp32(monkeypatch) -> None:
    """Not only in training: the same run scored again must give the same numbers."""
    from scaling.evaluate import weights

    seen: list[bool] = []

    def load(source: str, architecture: object) -> None:
        seen.append(torch.backends.cudnn.allow_tf32)
        raise LookupError

    monkeypatch.setattr(weights, "_load", load)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with pytest.raises(LookupError):
        weights.score_weights("any.npz", MagicMock(), [], SimpleNamespace(precision="fp32", threads=None))
    assert seen == [False]
