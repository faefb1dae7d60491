"""Planning in this process and without PyTorch, fast enough to try thousands of sweeps."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from scaling.errors import run_command
from scaling.launch.command import main
from scaling.plan import planner
from scaling.plan.zoo_counts import ModelFacts, ModelQuery
from scaling.records.run_plan import HarnessPlan

DryRun = Callable[..., tuple[int, str]]


def make_dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: Path) -> DryRun:
    """`dry_run(sweep, "key=value", …)` is the exit code and stderr of `scaling.launch SWEEP --dry-run --set …`.

    All of planning is real but the counting of FLOPs, which would load PyTorch, and the questions to git.
    """

    def count(queries: Iterable[ModelQuery]) -> dict[ModelQuery, ModelFacts]:
        return dict.fromkeys(queries, ModelFacts(10, 5, 100.0, 300.0))

    monkeypatch.setattr(planner, "count_models", count)
    harness = HarnessPlan(version="0", git_commit="", git_dirty=False)
    monkeypatch.setattr(planner, "describe_harness", lambda: harness)

    def dry_run(sweep: Path, *options: Any) -> tuple[int, str]:
        words = [word for option in options for word in ("--set", option)]
        code = run_command(main, [str(sweep), "--dry-run", "--out", str(out), *words])
        return code, capsys.readouterr().err

    return dry_run
