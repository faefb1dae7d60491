"""The linter and the type checker find nothing: part of the test command, so that nobody has to remember them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "words", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=["check", "format", "types"]
)
def test_the_tree_is_clean(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
