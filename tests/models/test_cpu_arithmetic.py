"""bf16 on a CPU without instructions for it is told before and when a run starts, with the remedy."""

import json
from pathlib import Path

import pytest

from scaling.launch.backends import gpus as machine_gpus
from scaling.launch.command import main
from scaling.models import cpu_arithmetic
from scaling.models.cpu_arithmetic import SLOW_BF16, bf16_is_slow, cpu_flags
from tests.support.ranks import codes, start_run
from tests.support.tiny_study import TINY_SWEEP


@pytest.mark.parametrize(
    ("text", "slow"),
    [
        ("processor: 0\nflags\t\t: fpu avx2 avx512f\n", True),
        ("flags\t\t: fpu avx512f avx512_bf16\n", False),
        ("flags\t\t: fpu amx_bf16\n", False),
        ("Features\t: fp asimd bf16\n", False),
        ("Features\t: fp asimd\nmodel name: bf16\n", True),
        ("", False),
    ],
)
def test_what_a_cpu_can_do_is_read(text: str, slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    flags = cpu_flags(tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu_arithmetic, "cpu_flags", lambda: flags)
    assert bf16_is_slow() is slow


@pytest.mark.parametrize(
    ("options", "flags", "gpus", "told"),
    [
        (["defaults.precision=bf16"], {"avx2"}, (), True),
        (["defaults.precision=bf16"], {"avx512_bf16"}, (), False),
        (["defaults.precision=bf16"], {"avx2"}, ("one",), False),
        (["defaults.precision=bf16", "launch.backend=slurm"], {"avx2"}, (), False),
        ([], {"avx2"}, (), False),
    ],
)
def test_a_dry_run_tells_of_it_where_the_runs_would_be_executed(
    options: list[str],
    flags: set[str],
    gpus: tuple[str, ...],
    told: bool,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cpu_arithmetic, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(machine_gpus, "visible_gpus", lambda: gpus)
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
    settings = [word for option in options for word in ("--set", option)]
    assert main([str(sweep), "--dry-run", "--out", str(tmp_path / "runs"), *settings]) == 0
    assert (SLOW_BF16 in capsys.readouterr().err) is told


def without_bf16(rank: int) -> None:
    cpu_arithmetic.cpu_flags = lambda: frozenset({"avx2"})  # type: ignore[assignment]


def test_a_run_tells_of_it_at_its_start(plan_tiny) -> None:
    [run] = plan_tiny("protocol.steps=2", "defaults.precision=bf16")
    assert codes(start_run(run.run_dir, 1, without_bf16)) == [0]
    assert (run.run_dir / "log.txt").read_text().count(SLOW_BF16) == 1


def test_a_model_of_timm_without_a_size_is_told_the_key(tiny_data: Path, tmp_path: Path, plan_tiny) -> None:
    with pytest.raises(ValueError, match=r"grid\.model\[0\]: timm:resnet18 needs defaults\.image_size") as caught:
        plan_tiny("grid.model=['timm:resnet18']")
    assert "--set defaults.image_size=224" in str(caught.value) and "\n" not in str(caught.value)
