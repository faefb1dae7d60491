"""The hardware that a run is executed on: its facts for the result, and peak rates of known devices for model FLOPs
utilisation.

Peaks are dense bf16 tensor-core rates without sparsity, by the name that the driver reports. A device or precision that
is not listed has no peak here, and so no utilisation: none is guessed.
"""

import os
import platform
from typing import Any, NamedTuple

import torch

from scaling.models.cpu_arithmetic import cpu_flags


class Peak(NamedTuple):
    """Of one device."""

    bf16_flops_per_second: float
    source: str
    """The vendor's data sheet. NVIDIA's give rates with sparsity, twice the dense ones, for Hopper and later."""


_A100 = Peak(312e12, "NVIDIA A100 Tensor Core GPU data sheet")
_H100_SXM = Peak(989e12, "NVIDIA H100 Tensor Core GPU data sheet, SXM: 1,979 with sparsity")
_H200_SXM = Peak(989e12, "NVIDIA H200 Tensor Core GPU data sheet, SXM: 1,979 with sparsity")
_GH200 = Peak(989e12, "NVIDIA GH200 Grace Hopper Superchip data sheet: 1,979 with sparsity")

PEAKS = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100 80GB PCIe": _A100,
    "NVIDIA A10": Peak(125e12, "NVIDIA A10 Tensor Core GPU data sheet: 125, 250 with sparsity"),
    "NVIDIA L4": Peak(121e12, "NVIDIA L4 Tensor Core GPU data sheet: 242 with sparsity"),
    "NVIDIA L40S": Peak(362e12, "NVIDIA L40S data sheet: 362.05, 733 with sparsity"),
    "NVIDIA H100 80GB HBM3": _H100_SXM,
    "NVIDIA H100 PCIe": Peak(756e12, "NVIDIA H100 Tensor Core GPU data sheet, PCIe: 1,513 with sparsity"),
    "NVIDIA H100 NVL": Peak(835e12, "NVIDIA H100 Tensor Core GPU data sheet, NVL: 1,671 with sparsity"),
    "NVIDIA H200": _H200_SXM,
    "NVIDIA H200 NVL": Peak(835e12, "NVIDIA H200 Tensor Core GPU data sheet, NVL: 1,671 with sparsity"),
    "NVIDIA GH200 120GB": _GH200,
    "NVIDIA GH200 480GB": _GH200,
    "NVIDIA H20": Peak(148e12, "NVIDIA H20 data sheet: 148"),
    "NVIDIA B200": Peak(2250e12, "NVIDIA DGX B200 data sheet: 36,000 with sparsity over 8 GPUs"),
    "NVIDIA GB200": Peak(2500e12, "NVIDIA GB200 NVL72 data sheet: 360,000 with sparsity over 72 GPUs"),
    "AMD Instinct MI300X": Peak(1307e12, "AMD Instinct MI300X data sheet: 1,307.4"),
}

LEAST_LIKELY_MFU = 0.03
"""A bf16 step below this is likelier to compute in fp32, or to wait, than to be a model that suits the device badly."""


def peak_flops_per_second(device_name: str, precision: str) -> float | None:
    """Peak of one device, FLOP/s; None when it is not known."""
    peak = PEAKS.get(device_name)
    return peak.bf16_flops_per_second if peak is not None and precision == "bf16" else None


def describe_hardware() -> dict[str, Any]:
    """Machine facts that explain a throughput; no host names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores_usable": len(os.sched_getaffinity(0)),
        "cores_total": os.cpu_count(),
        "memory_bytes": memory,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    else:
        facts["cpu_has_avx512_bf16"] = "avx512_bf16" in cpu_flags()
    return facts
