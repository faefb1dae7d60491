"""Energy as NVML counts it, with its part played here: what cannot be known is None, and never 0."""

import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, Ends, read_ends, settle_end, spent_energy
from scaling.records.state import RunState, Status
from scaling.train.reporting.energy import EnergyMeter

GPU = torch.device("cuda", 0)


class NVMLError(Exception):
    """As the package has it."""


@dataclass
class Board:
    """One GPU and its driver."""

    millijoules: int = 5_000_000
    processes: list[int] = field(default_factory=lambda: [17])
    uuid: str = "8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    board, nvml = Board(), types.ModuleType("pynvml")

    def handle(uuid: str) -> Board:
        if uuid != f"GPU-{Board.uuid}":
            raise NVMLError("Not Found")
        return board

    for name, value in {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": handle,
        "nvmlDeviceGetTotalEnergyConsumption": lambda board: board.millijoules,
        "nvmlDeviceGetComputeRunningProcesses": lambda board: board.processes,
    }.items():
        setattr(nvml, name, value)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = types.SimpleNamespace
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties(uuid=board.uuid))
    return board


def test_joules_since_the_meter_was_made(board: Board) -> None:
    meter = EnergyMeter(GPU)
    board.millijoules += 250_000
    assert meter.joules() == 250.0


def test_a_board_that_others_use_tells_nothing_from_then_on(board: Board) -> None:
    meter = EnergyMeter(GPU)
    board.processes.append(18)
    assert meter.joules() is None
    board.processes.pop()
    assert meter.joules() is None


def test_a_part_of_a_board_a_cpu_and_a_missing_package_tell_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EnergyMeter(torch.device("cpu")).joules() is None
    board.uuid = "of-a-mig-instance"
    assert EnergyMeter(GPU).joules() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter(GPU).joules() is None


@dataclass
class Partners:
    """A run of two processes, of which the other one adds `joules` and `unknown`."""

    joules: float
    unknown: float = 0.0
    world: int = 2
    device: str = "cpu"

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.tensor([self.joules, self.unknown], dtype=values.dtype)


def test_of_several_processes_all_are_summed_at_the_end_or_nothing_is_told(board: Board) -> None:
    meter = EnergyMeter(GPU)
    board.millijoules += 100_000
    assert meter.joules(2) is None, "in the middle nobody knows what the other boards drew"
    meter.settle(Partners(150.0))  # type: ignore[arg-type]
    board.millijoules += 999_000
    assert meter.joules(2) == 250.0, "scoring afterwards is no part of training"
    other = EnergyMeter(GPU)
    other.settle(Partners(0.0, unknown=1.0))  # type: ignore[arg-type]
    assert other.joules(2) is None


def test_a_killed_attempt_keeps_what_its_last_heartbeat_said(tmp_path: Path) -> None:
    claim_attempt(tmp_path)
    state = RunState(status=Status.RUNNING, attempt=1, step=40, train_seconds=8.0, energy_joules=12.5)
    state.save(tmp_path)
    assert settle_end(tmp_path, -9).energy_joules == 12.5
    assert read_ends(tmp_path).all[0].energy_joules == 12.5


def end(attempt: int, joules: float | None, train_seconds: float = 5.0) -> End:
    return End(attempt=attempt, cause=Cause.PREEMPTED, train_seconds=train_seconds, energy_joules=joules)


@pytest.mark.parametrize(
    ("ends", "num_attempts", "expected"),
    [
        ([end(1, 10.0), end(2, 5.0)], 2, 15.0),
        ([end(1, 10.0), end(2, None)], 2, None),
        ([end(1, 10.0), end(2, None, train_seconds=0.0)], 2, 10.0),
        ([end(2, 5.0)], 2, None),
        ([end(1, None, train_seconds=0.0)], 1, None),
        ([], 1, None),
    ],
)
def test_a_runs_energy_is_that_of_all_attempts_or_blank(
    ends: list[End], num_attempts: int, expected: float | None
) -> None:
    assert spent_energy(Ends(tuple(ends), tuple(ends)), num_attempts) == expected
