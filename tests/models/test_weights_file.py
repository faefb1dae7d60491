"""Equal weights are equal files, whichever process wrote them, and every reader takes them."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from scaling.data.storage.integrity import file_sha256
from scaling.models.weights.files import save_weights

METADATA = {"step": "30", "identity": "ab" * 32, "model": '{"name": "é/\\"b\\""}', "input": "{}", "more": "x" * 50}

WRITE = """\
import sys, torch
from pathlib import Path
from tests.models.test_weights_file import METADATA
from scaling.models.weights.files import save_weights
save_weights({"b": torch.arange(6.0).view(2, 3), "a": torch.ones(5)}, Path(sys.argv[1]), METADATA)
"""


def test_every_process_writes_the_same_bytes(tmp_path: Path) -> None:
    """Five keys have 120 orders, so four processes that left it to chance would agree once in 1.7 million."""
    for number in range(3):
        subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / str(number))], check=True)
    save_weights({"b": torch.arange(6.0).view(2, 3), "a": torch.ones(5)}, tmp_path / "own", METADATA)
    assert len({file_sha256(path) for path in tmp_path.iterdir()}) == 1
    loaded = load_file(tmp_path / "own")
    assert torch.equal(loaded["b"], torch.arange(6.0).view(2, 3)) and torch.equal(loaded["a"], torch.ones(5))
    with safe_open(tmp_path / "own", framework="pt") as file:
        assert file.metadata() == METADATA
