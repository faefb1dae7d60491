"""What the tests of the analysis share."""

import pytest

from tests.support.undrawn import leave_undrawn


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of the report stands in its words and tables."""
    leave_undrawn(monkeypatch)
