"""How much energy the GPUs of a run draw, by their drivers' own count (NVML; the package `nvidia-ml-py` is optional).

NVML counts a whole board's millijoules since its driver was loaded, on GPUs from Volta on. What cannot be known is
unknown and never 0: a CPU, a part of a board (MIG), a board that other processes use too, a missing package.
"""

import logging
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from scaling.train.processes.process_group import Processes

logger = logging.getLogger(__name__)


class EnergyMeter:
    """Joules that a run's GPUs have drawn since the meter was made."""

    def __init__(self, device: torch.device) -> None:
        self._nvml: Any = None
        self._board: Any = None
        self._before = 0
        self._settled: float | None = None
        self._is_settled = False
        if device.type == "cuda":
            self._open(device)

    def joules(self, world: int = 1) -> float | None:
        """So far. While a run of several processes trains, nobody knows what the boards of the others drew."""
        if self._is_settled:
            return self._settled
        return self._own() if world == 1 else None

    def settle(self, processes: "Processes") -> None:
        """The end of training: the sum over all processes, which call this together, is what `joules` tells from then
        on."""
        own = self._own()
        if processes.world > 1:
            told = torch.tensor([own or 0.0, float(own is None)], dtype=torch.float64, device=processes.device)
            own, unknown = processes.sum(told).tolist()
            own = None if unknown else own
        self._settled, self._is_settled = own, True

    def _own(self) -> float | None:
        """Of this process's board; None from the first time on that it was not this process's alone."""
        if self._board is None:
            return None
        try:
            if len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._board)) > 1:
                logger.info("other processes use this run's GPU: the energy of the run is not known")
                self._board = None
                return None
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._board) - self._before) / 1000
        except self._nvml.NVMLError as error:
            logger.info("the energy of the run is not known: %s", error)
            self._board = None
            return None

    def _open(self, device: torch.device) -> None:
        try:
            import pynvml
        except ImportError:
            logger.info("the energy of the run is not known: install nvidia-ml-py to have it counted")
            return
        self._nvml = pynvml
        uuid = str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))
        if not uuid:
            return  # PyTorch before 2.5 does not tell which board this is.
        try:
            pynvml.nvmlInit()
            # A MIG instance has a UUID that no board bears.
            self._board = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
            self._before = pynvml.nvmlDeviceGetTotalEnergyConsumption(self._board)
        except pynvml.NVMLError as error:
            logger.info("the energy of the run is not known: %s", error)
            self._board = None
