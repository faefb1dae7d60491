"""The lease: one writer at a time, told by the kernel on one machine and by beats beyond it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.records.ownership.lease import Lease, LeaseLostError, LifeWatch, look
from scaling.records.run_dir import RunDir

HOLDER = """
import sys, time
from pathlib import Path
from scaling.records.ownership.lease import Lease
lease = Lease(Path(sys.argv[1]), ttl_seconds=float(sys.argv[2]))
assert lease.acquire()
print("held", flush=True)
time.sleep(60)
"""

CONTENDER = """
import sys, time
from pathlib import Path
from scaling.records.ownership import lease as module
folder, ttl = Path(sys.argv[1]), float(sys.argv[2])
if sys.argv[3] == "elsewhere":
    module._this_process = lambda: ("elsewhere", 1, "")
lease = module.Lease(folder, ttl_seconds=ttl)
got = lease.acquire()
print(int(got), flush=True)
if got:
    time.sleep(1.5 * ttl)
    lease.check()
    lease.release()
"""

RACER = """
import sys
from pathlib import Path
from scaling.records.ownership import lease as module
folder, ttl = Path(sys.argv[1]), float(sys.argv[2])
if sys.argv[3] == "elsewhere":
    module._this_process = lambda: ("elsewhere", 1, "")
lease = module.Lease(folder, ttl_seconds=ttl)
print("ready", flush=True)
input()
got = lease.acquire()
print(int(got), flush=True)
input()
if got:
    lease.check()
    lease.release()
"""

WRITER = """
import sys, time
from pathlib import Path
from scaling.records.ownership.lease import Lease, LeaseLostError
folder, ttl = Path(sys.argv[1]), float(sys.argv[2])
lease = Lease(folder, ttl_seconds=ttl)
assert lease.acquire()
try:
    while True:
        lease.check()
        with (folder / "written").open("a") as stream:
            stream.write("holder\\n")
        time.sleep(0.1)
except LeaseLostError as error:
    print(error, flush=True)
    sys.exit(4)
"""


def spawn(code: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: subprocess.Popen[str]) -> None:
    """End its `input()`."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said_by(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds the run and beats every quarter of a second."""
    process = spawn(HOLDER, tmp_path, 1.0)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def hide_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be on another machine, where flock tells nothing."""
    monkeypatch.setattr("scaling.records.ownership.lease._this_process", lambda: ("elsewhere", 1, ""))


def test_a_held_run_is_busy_and_a_killed_holder_is_followed_at_once(tmp_path: Path, holder) -> None:
    assert LifeWatch().is_alive(tmp_path)
    assert not Lease(tmp_path, 0.5).acquire()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not LifeWatch().is_alive(tmp_path)
    started = time.monotonic()
    with Lease(tmp_path, 60) as lease:
        assert lease.acquire()
        assert time.monotonic() - started < 5
    assert look(tmp_path) is None


def test_from_another_machine_a_killed_holder_is_followed_after_a_ttl(
    tmp_path: Path, holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_kernel(monkeypatch)
    assert not Lease(tmp_path, 1.0).acquire()
    holder.kill()
    holder.wait()
    watch = LifeWatch(ttl_seconds=1.0)
    assert watch.is_alive(tmp_path)
    started = time.monotonic()
    lease = Lease(tmp_path, 1.0)
    assert lease.acquire()
    assert time.monotonic() - started >= 1.0
    lease.release()
    assert not watch.is_alive(tmp_path)


def test_a_watch_goes_by_its_own_clock_once_it_has_seen_a_beat(
    tmp_path: Path, holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other machine's clock is an hour behind: its beats look old, and yet they come."""
    hide_kernel(monkeypatch)
    now = [0.0]
    watch = LifeWatch(ttl_seconds=1.0, clock=lambda: now[0])
    holder.kill()
    holder.wait()
    path = RunDir(tmp_path).lease
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    assert not watch.is_alive(tmp_path)
    os.utime(path, (hour_ago + 1, hour_ago + 1))
    assert watch.is_alive(tmp_path)
    now[0] = 0.9
    assert watch.is_alive(tmp_path)
    now[0] = 1.1
    assert not watch.is_alive(tmp_path)


@pytest.mark.parametrize("contenders", [["here", "here"], ["here", "here", "elsewhere"], ["elsewhere"] * 3])
@pytest.mark.parametrize("left_by", ["nobody", "a killed process"])
def test_of_several_that_start_at_once_exactly_one_gets_the_run(
    contenders: list[str], left_by: str, tmp_path: Path
) -> None:
    """On free runs and on runs whose holder was killed. None comes so late that the run is free again."""
    ttl = 1.5
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        if left_by != "nobody":
            dead = spawn(HOLDER, folder, ttl)
            assert dead.stdout is not None and dead.stdout.readline() == "held\n"
            dead.kill()
            dead.wait()
        processes = [spawn(RACER, folder, ttl, where) for where in contenders]
        assert [said_by(process) for process in processes] == ["ready"] * len(contenders)
        for process in processes:
            tell(process)
        assert sorted(map(said_by, processes)) == ["0"] * (len(contenders) - 1) + ["1"]
        for process in processes:
            tell(process)
        assert [process.wait(timeout=60) for process in processes] == [0] * len(contenders)


def test_a_process_that_was_stopped_wakes_up_and_leaves_without_writing(tmp_path: Path) -> None:
    """SIGSTOP, another process takes the run over, SIGCONT. It is stopped between two writes: a lease cannot help a
    process that is stopped inside of one."""
    ttl, written = 1.0, tmp_path / "written"
    holder = spawn(WRITER, tmp_path, ttl)
    try:
        size, deadline = 0, time.monotonic() + 30
        while size < 3 * len("holder\n") and time.monotonic() < deadline:
            size = written.stat().st_size if written.exists() else 0
        holder.send_signal(signal.SIGSTOP)
        before = written.read_text()
        assert before.count("holder") >= 3
        other = spawn(CONTENDER, tmp_path, ttl, "elsewhere")
        assert other.stdout is not None and other.stdout.readline() == "1\n"
        holder.send_signal(signal.SIGCONT)
        told, _ = holder.communicate(timeout=30)
        assert holder.returncode == 4
        assert "elsewhere has taken over" in told or "was paused for" in told
        assert written.read_text() == before
        assert other.wait(timeout=30) == 0
    finally:
        holder.kill()
        holder.wait()


def test_a_paused_holder_whose_lease_went_to_another_notices_and_may_not_write(tmp_path: Path) -> None:
    ours = Lease(tmp_path, 1.0)
    assert ours.acquire(beats=False)  # As if this process had been stopped: no beat, and no time passes for it.
    other = spawn(CONTENDER, tmp_path, 1.0, "elsewhere")
    assert other.stdout is not None and other.stdout.readline() == "1\n"
    with pytest.raises(LeaseLostError, match=r"process 1 on elsewhere has taken over"):
        ours.check()
    assert not ours.renew()
    ours.release()
    now = look(tmp_path)
    assert now is not None and now.holder.host == "elsewhere"  # Releasing took nothing from the new holder.
    assert other.wait() == 0


def test_a_holder_paused_for_half_a_ttl_cannot_be_sure_any_more(tmp_path: Path) -> None:
    lease = Lease(tmp_path, 0.2)
    assert lease.acquire(beats=False)
    lease.check()
    time.sleep(0.15)
    with pytest.raises(LeaseLostError, match=r"was paused for"):
        lease.check()


@pytest.mark.parametrize("deleted", ["lease", "folder", "replaced"])
def test_what_is_deleted_under_a_holder_is_told(deleted: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    lease = Lease(folder, 60)
    assert lease.acquire()
    RunDir(folder).lease.unlink()
    if deleted != "lease":
        folder.rmdir()
    if deleted == "replaced":
        folder.mkdir()
    with pytest.raises(LeaseLostError, match=r"folder .* was deleted" if deleted == "folder" else r"lease was deleted"):
        lease.check()
    lease.release()


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"{}", b'{"name": 3', b"[" * 3000])
def test_a_damaged_lease_is_taken_over_after_a_ttl(content: bytes, tmp_path: Path) -> None:
    RunDir(tmp_path).lease.write_bytes(content)
    with Lease(tmp_path, 0.3) as lease:
        assert lease.acquire()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["pipe", "link to nowhere", "link to itself", "link to a device"])
def test_what_lies_in_the_place_of_a_lease_is_taken_away(what: str, tmp_path: Path) -> None:
    """What is nobody's lease is believed for a ttl at most, and then the run goes to one taker."""
    path = RunDir(tmp_path).lease
    if what == "pipe":
        os.mkfifo(path)
    else:
        target = {"link to nowhere": "nowhere", "link to itself": path.name, "link to a device": "/dev/zero"}[what]
        path.symlink_to(target)
    lease = Lease(tmp_path, ttl_seconds=1)
    assert lease.acquire(beats=False)
    assert path.is_file() and not path.is_symlink()
    assert not Lease(tmp_path, ttl_seconds=1).acquire(beats=False)
    lease.release()
    assert list(tmp_path.iterdir()) == []
