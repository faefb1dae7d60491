"""A search on a Ray of the launcher's own: the trials, the stops and the choice of the local back end."""

import os
from pathlib import Path

from tests.launch.backends.ray.lab import MARK, assert_same_numbers, wait_until_gone
from tests.support.small_search import assert_same_search, launch_search


def test_a_search_chooses_as_on_the_local_back_end(tiny_data: Path, tmp_path: Path) -> None:
    mark = f"search-{os.getpid()}-{tmp_path.name}"
    here = launch_search(tmp_path / "here", tiny_data, "local", os.environ)
    there = launch_search(tmp_path / "there", tiny_data, "ray", os.environ | {MARK: mark})
    final = assert_same_search(here, there)
    assert_same_numbers(here / final, there / final)
    wait_until_gone(mark)
