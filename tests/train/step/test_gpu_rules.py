"""What a GPU would do, played on a CPU: autocast inside DeepSpeed, TF32, which device, which accelerator, memory."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scaling.records.run_plan import RunPlan
from scaling.train.processes.placement import Placement
from tests.support.ranks import codes, start
from tests.train.step.test_engine import batches, new_model


def train_as_on_cuda(out: Path, run_dir: Path) -> None:
    """Two steps while PyTorch says that autocast is on for the device at hand, as it does on CUDA inside our own."""
    from scaling.train.processes.process_group import join_processes
    from scaling.train.step.engine import build_engine
    from scaling.train.step.rules import plan_batching

    torch.is_autocast_enabled = lambda *device: True  # type: ignore[assignment]
    plan = RunPlan.load(run_dir)
    with join_processes() as processes:
        batching = plan_batching(plan.schedule.batch, processes.world, plan.engine.micro_batch)
        engine = build_engine(new_model(plan), plan, batching, processes.device, processes.rank)
        seen = set()
        linear = next(module for module in engine.model.modules() if isinstance(module, torch.nn.Linear))
        linear.register_forward_hook(lambda module, inputs, output: seen.add(str(output.dtype)))
        for step, (images, labels) in enumerate(batches(plan, processes.rank, processes.world)[:2], 1):
            engine.train_step(step, images, labels)
        buckets = getattr(engine.deepspeed_engine.optimizer, "ipg_buckets", {})
        gradients = {str(p.grad.dtype) for p in engine.model.parameters() if p.grad is not None}
        if processes.is_first:
            found = {"linear": sorted(seen), "buckets": [str(t) for t in buckets], "gradients": sorted(gradients)}
            out.write_text(json.dumps(found))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_bf16_reaches_the_layers_and_gradients_travel_in_fp32(stage: int, plan_tiny, tmp_path: Path) -> None:
    (run,) = plan_tiny("defaults.precision=bf16", f"defaults.zero_stage={stage}")
    out = tmp_path / "seen.json"
    assert codes(start(partial(train_as_on_cuda, out), run.run_dir, world=2)) == [0, 0]
    found = json.loads(out.read_text())
    assert found["linear"] == ["torch.bfloat16"]
    assert set(found["buckets"]) == (set() if stage == 0 else {"torch.float32"})
    assert set(found["gradients"]) <= {"torch.float32"}


@pytest.fixture
def arithmetic():
    """PyTorch's switches as a new process has them, whatever ran in this one before; put back afterwards."""
    saved = (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
    )
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default, which the papers' fp32 is not.
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = saved[:2]
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = saved[2:]


def test_fp32_is_not_tf32(plan_tiny, arithmetic) -> None:
    from scaling.train.step.execution import settle_arithmetic

    settle_arithmetic(plan_tiny()[0].plan)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_is_a_setting_outside_of_the_identity(plan_tiny, arithmetic) -> None:
    from scaling.train.step.execution import settle_arithmetic

    (free,), (strict,) = plan_tiny(name="a"), plan_tiny("defaults.deterministic=true", name="b")
    assert free.plan.identity == strict.plan.identity
    settle_arithmetic(strict.plan)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    settle_arithmetic(free.plan)
    assert not torch.are_deterministic_algorithms_enabled()


def gpus(monkeypatch: pytest.MonkeyPatch, visible: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


@pytest.mark.parametrize(
    ("visible", "local_rank", "device"), [(0, 3, "cpu"), (1, 0, "cuda:0"), (1, 3, "cuda:0"), (8, 3, "cuda:3")]
)
def test_a_gpu_of_ones_own_is_number_0(monkeypatch, visible: int, local_rank: int, device: str) -> None:
    from scaling.train.processes.process_group import find_device

    gpus(monkeypatch, visible)
    placement = Placement(local_rank, 4, local_rank, 4, "127.0.0.1", 20_000)
    assert str(find_device(placement)) == device


def test_more_processes_than_gpus_are_refused(monkeypatch) -> None:
    from scaling.errors import UserError
    from scaling.train.processes.process_group import find_device

    gpus(monkeypatch, 2)
    with pytest.raises(UserError, match="local rank 3 has no GPU of its own: 2 GPUs are visible"):
        find_device(Placement(3, 4, 3, 4, "127.0.0.1", 20_000))


def test_more_gpus_than_processes_are_mentioned(monkeypatch, caplog) -> None:
    from scaling.train.processes.process_group import find_device

    gpus(monkeypatch, 8)
    find_device(Placement(0, 4, 0, 4, "127.0.0.1", 20_000))
    assert "8 GPUs are visible and this run uses 4" in caplog.text


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"])
def test_hidden_gpus_are_none(monkeypatch, variable: str, hidden: str) -> None:
    """Also where the driver's tools and device files are there."""
    from scaling.train.processes import placement

    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter([self / "nvidia0"]))
    for name in placement.VISIBILITY:
        monkeypatch.delenv(name, raising=False)
    assert placement.may_have_gpu()
    monkeypatch.setenv(variable, hidden)
    assert not placement.may_have_gpu()


def settle(out: Path, kind: str) -> None:
    import deepspeed

    from scaling.train.processes.process_group import _settle_accelerator

    _settle_accelerator(torch.device(kind))
    out.write_text(deepspeed.accelerator.get_accelerator().device_name())


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_deepspeed_takes_the_device_that_the_run_uses(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "name"
    assert codes(start(settle, out, kind, world=1)) == [0]
    assert out.read_text() == kind


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "NCCL error: unhandled cuda error; Cuda failure 'out of memory'",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_memory_that_libraries_lack_counts_as_full(message: str) -> None:
    from scaling.train.processes.process_group import Processes
    from scaling.train.step.micro_batch import _finds_room

    def work() -> None:
        raise RuntimeError(message)

    processes = Processes(0, 1, torch.device("cpu"))
    assert not _finds_room(work, processes)
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        _finds_room(lambda: (_ for _ in ()).throw(RuntimeError("a shape is wrong")), processes)


def test_a_size_that_leaves_no_margin_does_not_fit(monkeypatch) -> None:
    from scaling.train.step.micro_batch import MARGIN, _leaves_margin

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=1000))
    for taken, fits in ((1000 * (1 - MARGIN) - 1, True), (1000 * (1 - MARGIN) + 1, False)):
        monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device, taken=taken: taken)
        assert _leaves_margin(torch.device("cuda")) is fits


def test_every_listed_device_has_a_peak_with_a_source() -> None:
    from scaling.train.reporting.hardware import PEAKS, peak_flops_per_second

    assert {"NVIDIA H100 NVL", "NVIDIA H200 NVL", "NVIDIA H20", "NVIDIA B200", "NVIDIA GB200"} < set(PEAKS)
    assert {"NVIDIA GH200 480GB", "NVIDIA L40S", "NVIDIA A10", "AMD Instinct MI300X"} < set(PEAKS)
    for name, peak in PEAKS.items():
        assert "data sheet" in peak.source
        assert peak_flops_per_second(name, "bf16") == peak.bf16_flops_per_second
        assert peak_flops_per_second(name, "fp32") is None
    assert peak_flops_per_second("some new GPU", "bf16") is None


def utilisation(caplog: pytest.LogCaptureFixture, images_per_second: float) -> tuple[dict[str, float], str]:
    """What the loop reports after 10 steps of 100 images in 2 s of training and 3 s of pauses on two H100."""
    from scaling.train.loop import Loop

    loop = SimpleNamespace(
        _recorder=SimpleNamespace(
            clock=SimpleNamespace(train_seconds=12.0, pause_seconds=8.0), device_name="NVIDIA H100 80GB HBM3"
        ),
        _plan=SimpleNamespace(
            recipe=SimpleNamespace(precision="bf16"),
            model=SimpleNamespace(flops_train_per_image=1e12),
            schedule=SimpleNamespace(batch=100),
        ),
        _processes=SimpleNamespace(world=2),
        _row_step=20,
        _row_train_seconds=10.0,
        _row_pause_seconds=5.0,
        _has_warned_of_mfu=False,
    )
    with caplog.at_level("WARNING"):
        found = Loop._utilisation(loop, 30, images_per_second)  # type: ignore[arg-type]
    return found, caplog.text


def test_mfu_is_told_of_steps_and_of_all_time(caplog) -> None:
    found, warnings = utilisation(caplog, 500.0)
    assert found["mfu"] == pytest.approx(500 * 1e12 / (2 * 989e12))
    assert found["mfu_end_to_end"] == pytest.approx(found["mfu"] * 2 / 5)
    assert not warnings


def test_an_implausible_mfu_is_warned_of(caplog) -> None:
    assert "implausibly low" in utilisation(caplog, 20.0)[1]
