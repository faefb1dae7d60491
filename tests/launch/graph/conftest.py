"""Fixtures: a small sweep with a search, and a place to launch it."""

import json
from pathlib import Path

import pytest

from tests.launch.graph.lab import TUNE, Lab
from tests.support.tiny_study import TINY_SWEEP


@pytest.fixture
def sweep(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))) + TUNE)
    return path


@pytest.fixture
def lab(sweep: Path, tmp_path: Path) -> Lab:
    return Lab(sweep, tmp_path / "study")
