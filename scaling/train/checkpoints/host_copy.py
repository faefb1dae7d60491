"""Copies of a device's tensors in the memory of the host, for writing them while training changes the originals.

The memory is taken at the first copy and used for all later ones: fresh pages cost more than copying into them, and
pinned ones, from which alone a GPU copies at full speed, cost far more. PyTorch rounds each pinned tensor up to a power
of two bytes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


class HostCopy:
    """Tensors of fixed shapes, by name."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._room: dict[str, Tensor] = {}

    def take(self, tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """Contiguous copies, complete when this returns; the next copy of a name overwrites the one before."""
        taken: dict[str, Tensor] = {}
        is_on_gpu = self._device.type == "cuda"
        for name, tensor in tensors:
            if name not in self._room:
                self._room[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_on_gpu)
            taken[name] = self._room[name].copy_(tensor.detach(), non_blocking=True)
        if is_on_gpu:
            torch.cuda.current_stream(self._device).synchronize()
        return taken
