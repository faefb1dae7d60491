"""A search as jobs of a real Slurm: the trials, the stops and the choice of this machine."""

import os
from pathlib import Path

from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import assert_same_numbers, needs_slurm
from tests.support.small_search import assert_same_search, launch_search

pytestmark = needs_slurm


def test_a_search_chooses_as_on_this_machine(start_lab: StartLab, tiny_data: Path, tmp_path: Path) -> None:
    here = launch_search(tmp_path / "here", tiny_data, "local", os.environ)
    lab = start_lab("--nodes", "1", "--cpus", "2")
    there = launch_search(tmp_path / "there", tiny_data, "slurm", lab.environment)
    final = assert_same_search(here, there)
    assert_same_numbers(here / final, there / final)
