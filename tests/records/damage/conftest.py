"""The finished study, made once for the tests of a file."""

from pathlib import Path

import pytest

from tests.records.damage.finished_study import FinishedStudy


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> FinishedStudy:
    return FinishedStudy(tmp_path_factory.mktemp("finished"), tiny_data)
