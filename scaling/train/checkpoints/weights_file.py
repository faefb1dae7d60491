"""Weights as a safetensors file whose bytes follow from its content.

The library writes the metadata of a file in an order that differs from process to process. With that order fixed, equal
weights of equal runs have an equal SHA-256, by which records name them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

LENGTH_BYTES = 8
"""A file begins with the length of its JSON header, then the header, filled up with spaces."""


def save_weights(weights: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors, by name, and texts about them."""
    save_file(dict(weights), path, metadata=dict(metadata))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, (len(text), length)
        file.seek(LENGTH_BYTES)
        file.write(text.ljust(length))
