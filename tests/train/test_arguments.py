"""How a training process is executed, as options of its command line and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.records.attempts.contract import Execution
from scaling.train import __main__ as command

COUNTS = st.none() | st.integers(1, 1000)


@given(
    st.builds(
        Execution,
        threads=COUNTS,
        loader_threads=COUNTS,
        loader_processes=st.integers(0, 1000),
        pixel_cache_gb=st.none() | st.floats(1e-3, 1e6),
    )
)
def test_a_training_process_is_executed_as_its_options_say(execution: Execution) -> None:
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "train_run", lambda run_dir, **options: found.append(options["execution"]) or 0)
        assert command.main(["run", *execution.arguments()]) == 0
    assert found == [execution]
