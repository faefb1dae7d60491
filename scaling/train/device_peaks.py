"""Peak arithmetic rates of known devices, for model FLOPs utilisation.

Dense bf16 tensor-core rates of NVIDIA's data sheets, without sparsity, by the name that the driver reports. A device or
precision that is not listed has no peak here, and so no utilisation: none is guessed.
"""

BF16_PEAKS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
}


def peak_flops_per_second(device_name: str, precision: str) -> float | None:
    """Peak of one device, FLOP/s; None when it is not known."""
    return BF16_PEAKS.get(device_name) if precision == "bf16" else None
