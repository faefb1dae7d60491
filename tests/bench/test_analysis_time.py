"""The bench of the analysis measures whole commands on studies that the analysis reads like any other."""

import json
from pathlib import Path

from scaling.bench import analysis_time
from scaling.bench.command import main
from scaling.records.study import read_study


def test_reports_of_growing_studies_are_measured(tmp_path: Path, capsys, monkeypatch) -> None:
    asked: dict[str, int] = {}

    def measured(title: str, arguments: list[str]) -> dict[str, float]:
        if "analysis" in arguments:
            asked[title] = sum(run.standing.is_finished for run in read_study(Path(arguments[2])).runs)
        return {"wall_seconds": 2.0, "cpu_seconds": 1.0 + asked.get(title, 0), "peak_bytes": 1e8}

    monkeypatch.setattr(analysis_time, "_measured", measured)
    figures = tmp_path / "figures.json"
    words = ["analysis", "--runs", "200", "--rows", "2", "--models", "3", "--curves", "2", "--json", str(figures)]
    assert main(words) == 0
    assert asked == {
        "report, 50 runs": 50,
        "report, 100 runs": 100,
        "report, 200 runs": 200,
        "report, 3 models x 4 sizes x 2 seeds": 24,
    }
    found = json.loads(figures.read_text())
    assert found["cpu_ratio_per_doubling"] == [101 / 51, 201 / 101]
    assert {"git_commit", "version", "machine"} <= found.keys()
    assert "bare reading" in capsys.readouterr().out


def test_a_command_is_measured_by_its_own_seconds_and_peak() -> None:
    used = analysis_time._measured("busy", ["-c", "x = bytearray(200_000_000); sum(range(10**6))"])
    assert used["peak_bytes"] > 200e6 and used["cpu_seconds"] > 0
