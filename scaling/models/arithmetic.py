"""In which numbers a model works: the input range of its pixels and the precision of its arithmetic."""

import torch
from torch import Tensor


def normalise(images: Tensor) -> Tensor:
    """uint8 pixels -> floats in [-1, 1], on the images' device (the papers' input range)."""
    return images.float().div_(127.5).sub_(1.0)


def settle_tf32(precision: str) -> None:
    """Have a GPU compute fp32 in whole: PyTorch lets cuDNN round the inputs of fp32 convolutions to TF32's 10 bits."""
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 arithmetic where PyTorch considers it safe, or none; weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
