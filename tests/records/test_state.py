"""State and lock: who holds a run, told by the kernel."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scaling.records.state import RunLock, RunState

HOLDER = """
import sys, time
from pathlib import Path
from scaling.records.state import RunLock
lock = RunLock(Path(sys.argv[1]))
assert lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_state_round_trip_and_default(tmp_path: Path) -> None:
    assert RunState.load(tmp_path).status == "pending"
    state = RunState(status="running", attempt=2, step=7, host="h", pid=3, heartbeat_unix_time=1.5)
    state.save(tmp_path)
    assert RunState.load(tmp_path) == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_the_lock_dies_with_its_holder_even_when_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert RunLock.is_held(tmp_path)
    assert not RunLock(tmp_path).acquire(patience_seconds=0)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not RunLock.is_held(tmp_path)
    assert RunLock(tmp_path).acquire()


def test_asking_does_not_take_the_lock(tmp_path: Path) -> None:
    assert not RunLock.is_held(tmp_path)
    lock = RunLock(tmp_path)
    assert lock.acquire()
    assert RunLock.is_held(tmp_path)
    lock.release()
    assert not RunLock.is_held(tmp_path)


def test_heartbeat_age() -> None:
    assert 4.9 < RunState(heartbeat_unix_time=time.time() - 5).heartbeat_age_seconds() < 60
