"""What the first process found, sent to all: values and tensors that no other process reads from a disk by itself.

On a shared file system two processes may see different newest files for a while, and many processes reading gigabytes
each is a burden on it. So one reads and sends it to the others. Every function is called by all processes together.
"""

import json
from typing import Any

import torch
from torch import Tensor

from scaling.train.processes.process_group import Processes


def tell(value: Any, processes: Processes) -> Any:
    """The first process's `value`, which JSON can hold, on all processes; what the others pass is ignored."""
    if processes.world == 1:
        return value
    content = bytearray(json.dumps(value).encode()) if processes.is_first else bytearray()
    length = torch.tensor([len(content)], dtype=torch.int64)
    torch.distributed.broadcast(length, src=0, group=processes.host_group)
    data = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(int(length), dtype=torch.uint8)
    torch.distributed.broadcast(data, src=0, group=processes.host_group)
    return json.loads(data.numpy().tobytes())


def exchange(value: Any, processes: Processes) -> list[Any]:
    """The `value` of every process, which JSON can hold, in the order of their ranks."""
    if processes.world == 1:
        return [value]
    content = json.dumps(value).encode()
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(processes.world)]
    torch.distributed.all_gather(lengths, torch.tensor([len(content)]), group=processes.host_group)
    longest = max(map(int, lengths))
    parts = [torch.empty(longest, dtype=torch.uint8) for _ in lengths]
    mine = torch.frombuffer(bytearray(content.ljust(longest)), dtype=torch.uint8)
    torch.distributed.all_gather(parts, mine, group=processes.host_group)
    return [json.loads(part.numpy().tobytes()[: int(length)]) for part, length in zip(parts, lengths, strict=True)]


def send(tensor: Tensor | None, shape: list[int], dtype: torch.dtype, processes: Processes) -> Tensor:
    """The first process's tensor on every process's device; the others pass None."""
    if tensor is None:
        tensor = torch.empty(shape, dtype=dtype, device=processes.device)
    else:
        tensor = tensor.to(processes.device).contiguous()
    if processes.world > 1:
        torch.distributed.broadcast(tensor, src=0)
    return tensor


def send_model(model: torch.nn.Module, processes: Processes) -> None:
    """Give every process the first one's weights and buffers."""
    if processes.world > 1:
        for tensor in model.state_dict().values():
            # A collective takes contiguous memory only, and convolutions may be channels last.
            sent = tensor.contiguous()
            torch.distributed.broadcast(sent, src=0)
            tensor.copy_(sent)
