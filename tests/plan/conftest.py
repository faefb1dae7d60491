"""What the tests of planning share."""

import contextlib
import io
import subprocess
from collections.abc import Sequence

import pytest

from scaling.models.__main__ import main
from scaling.plan import count_models


@pytest.fixture
def count_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are counted by the same command in this process: one that starts takes seconds to import PyTorch."""

    def run(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert list(command[1:3]) == ["-m", "scaling.models"]
        with contextlib.redirect_stdout(io.StringIO()) as output:
            code = main(command[3:])
        return subprocess.CompletedProcess(command, code, output.getvalue(), "")

    monkeypatch.setattr(count_models.subprocess, "run", run)
