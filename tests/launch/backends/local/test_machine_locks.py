"""Two launchers never have the same core or GPU, and what a killed one held is free once its runs are gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.launch.backends.local.machine_locks import DeviceLocks

HOLD = """
import sys, time
from pathlib import Path
from scaling.launch.backends.local.machine_locks import DeviceLocks
descriptor = DeviceLocks(Path(sys.argv[1])).take([0], ["GPU-a"])
import os
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(60)
print(child, flush=True)
time.sleep(60)
"""


def test_what_one_has_another_cannot_take(tmp_path: Path) -> None:
    mine, yours = DeviceLocks(tmp_path / "locks"), DeviceLocks(tmp_path / "locks")
    held = mine.take([0, 1], ["GPU-a"])
    assert held is not None
    assert yours.take([1, 2], []) is None
    assert yours.take([], ["GPU-a"]) is None
    other = yours.take([2], ["GPU-b"])
    assert other is not None
    os.close(held)
    assert yours.take([0, 1], ["GPU-a"]) is not None
    assert mine.take([2], []) is None


def test_a_failed_attempt_leaves_nothing_taken(tmp_path: Path) -> None:
    mine, yours = DeviceLocks(tmp_path / "locks"), DeviceLocks(tmp_path / "locks")
    held = mine.take([1], [])
    assert yours.take([0, 1], []) is None
    assert mine.take([0], []) is not None
    assert held is not None


def test_the_lock_is_held_until_the_last_process_of_a_run_is_gone(tmp_path: Path) -> None:
    """A launcher is killed; its run still computes, and its core is still taken."""
    path = tmp_path / "locks"
    launcher = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    run = int(launcher.stdout.readline())
    locks = DeviceLocks(path)
    assert locks.take([0], []) is None
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    assert locks.take([0], []) is None
    os.kill(run, signal.SIGKILL)
    for _ in range(200):
        if locks.take([0], ["GPU-a"]) is not None:
            return
        subprocess.run(["sleep", "0.02"], check=True)
    pytest.fail("the core was never given back")


def test_a_place_that_cannot_be_used_costs_a_warning_and_not_the_study(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "locks").mkdir()
    locks = DeviceLocks(tmp_path / "locks")
    assert locks.take([0], []) is not None and locks.take([0], []) is not None
    assert sum("may take the same cores" in record.message for record in caplog.records) == 1
