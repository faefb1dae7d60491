"""What the tests of the Ray back end look at: processes of a test, what they listen on, runs held in mid-run."""

import shutil
from pathlib import Path

from scaling.records.run_dir import RunDir, StudyDir
from tests.launch.backends.slurm.lab import assert_same_numbers, held_at, is_pending, wait_until
from tests.support.ranks import codes, start_run

__all__ = ["assert_same_numbers", "held_at", "is_pending", "wait_until"]

MARK = "SCALING_TEST_MARK"
"""Environment variable that all processes of one test inherit, whoever starts them."""

LISTENING = "0A"
"""State of a TCP socket in /proc/net/tcp."""


def run_dirs(study_dir: Path) -> list[Path]:
    return [run.path for run in StudyDir(study_dir).run_dirs()]


def train_plan_here(run_dir: Path, copy: Path) -> Path:
    """The same plan trained from its start on this machine, without Ray, by one process with one thread."""
    copy.mkdir(parents=True)
    shutil.copy(RunDir(run_dir).plan, RunDir(copy).plan)
    assert codes(start_run(copy, 1, _one_thread)) == [0], RunDir(copy).log.read_text()
    return copy


def _one_thread(rank: int) -> None:
    import torch

    torch.set_num_threads(1)


def marked_processes(mark: str) -> list[int]:
    """Living processes with this mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
        except OSError:
            continue
    return sorted(found)


def listening_addresses(mark: str) -> set[str]:
    """`ADDRESS:PORT` of every TCP socket on which a process with this mark takes connections."""
    found = set()
    for pid in marked_processes(mark):
        inodes = _socket_inodes(pid)
        for name in ("tcp", "tcp6"):
            for line in (Path("/proc") / str(pid) / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == LISTENING and fields[9] in inodes:
                    found.add(_readable(fields[1]))
    return found


def _socket_inodes(pid: int) -> set[str]:
    targets = set()
    for path in (Path("/proc") / str(pid) / "fd").iterdir():
        try:
            targets.add(str(path.readlink()))
        except OSError:
            continue
    return {target[len("socket:[") : -1] for target in targets if target.startswith("socket:[")}


def _readable(address: str) -> str:
    """`0100007F:1F90` -> `127.0.0.1:8080`; an IPv4 address in IPv6 clothes is shown as such."""
    number, port = address.split(":")
    raw = b"".join(bytes.fromhex(number[start : start + 8])[::-1] for start in range(0, len(number), 8))
    mapped = raw.removeprefix(b"\0" * 10 + b"\xff\xff")
    host = ".".join(map(str, mapped)) if len(mapped) == 4 else raw.hex()
    return f"{host}:{int(port, 16)}"
