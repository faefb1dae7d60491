"""Planning is measured in fresh processes, and takes what a person waits for gladly."""

import json
import sys
from pathlib import Path

from scaling.bench.command import main


def test_planning_is_measured_and_loads_no_pytorch(tmp_path: Path, capsys) -> None:
    """CPU seconds, since other tests run beside this one."""
    assert main(["launch", "--runs", "1200", "--rounds", "1", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["cases"]) == ["data_size, 28 runs", "1,200 runs", "1,200 runs, json"]
    for case in figures["cases"].values():
        assert not case["loads_torch"]
        assert case["cpu_seconds"] < 3 and case["peak_bytes"] < 200e6
    assert "loads PyTorch" in capsys.readouterr().out
    assert "scaling.bench.launching" in sys.modules
