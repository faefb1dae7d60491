"""What the tests of the Ray back end look at: processes of a test, what they listen on, runs held in mid-run."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from scaling.records.run_dir import RunDir, StudyDir
from tests.launch.backends.slurm.lab import (
    all_held_at,
    assert_same_numbers,
    held_at,
    is_pending,
    training_processes,
    wait_for_result,
    wait_until,
)
from tests.support.ranks import codes, start_run

__all__ = ["assert_same_numbers", "held_at", "is_pending", "training_processes", "wait_for_result", "wait_until"]

ROOT = Path(__file__).parents[4]

MARK = "SCALING_TEST_MARK"
"""Environment variable that all processes of one test inherit, whoever starts them."""

LISTENING = "0A"
"""State of a TCP socket in /proc/net/tcp."""


def run_dirs(study_dir: Path) -> list[Path]:
    return [run.path for run in StudyDir(study_dir).run_dirs()]


def train_plan_here(run_dir: Path, copy: Path, world: int = 1) -> Path:
    """The same plan trained from its start on this machine, without Ray, by processes with one thread each."""
    copy.mkdir(parents=True)
    shutil.copy(RunDir(run_dir).plan, RunDir(copy).plan)
    assert codes(start_run(copy, world, _one_thread)) == [0] * world, RunDir(copy).log.read_text()
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


def wait_until_gone(mark: str, seconds: float = 120) -> None:
    """Until no process with this mark is left; those that are, are named."""
    deadline = time.monotonic() + seconds
    while left := marked_processes(mark):
        if time.monotonic() > deadline:
            pytest.fail(f"not gone within {seconds:g} s: {[_command(pid) for pid in left]}")
        time.sleep(0.1)


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
    except OSError:
        return f"{pid}, gone meanwhile"


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


NODE = "SCALING_TEST_NODE"
"""Environment variable that names the node to which a process belongs."""

HEAD = "127.0.0.1:6379"

SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node that is lost is given up after 3 failed looks, a second apart, instead of 5 with three seconds between.
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    # A node whose head is lost gives up after 5 s instead of a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}

needs_cluster = pytest.mark.skipif(
    os.geteuid() != 0 or any(shutil.which(program) is None for program in ("unshare", "nsenter", "ip")),
    reason="a cluster in a network of its own needs root, unshare, nsenter and ip: apt-get install iproute2",
)


@contextmanager
def only_processes_held_at(run_dirs: Sequence[Path], step: int) -> Iterator[dict[Path, int]]:
    """Hold runs of one process each (`all_held_at`); process ids by run."""
    with all_held_at(run_dirs, step) as held:
        yield {run_dir: pid for run_dir, [pid] in held.items()}


class Cluster:
    """Real raylets in a network that has the loopback device alone, and commands that run there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.mark = f"cluster-{os.getpid()}-{folder.name}"
        self._temporary = tempfile.mkdtemp(prefix="ray-")  # Ray's socket names have to be short.
        self._nodes: list[str] = []
        self._network = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
            stdout=subprocess.PIPE,
            env=os.environ | {MARK: self.mark},
        )
        assert self._network.stdout is not None and self._network.stdout.readline() == b"up\n"

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "--net", "--target", str(self._network.pid), *command]

    def start(self, name: str, address: str, **options: object) -> None:
        """Start a node, the first of which is the head; options are those of `ray start`."""
        options |= {
            "node_ip_address": address,
            "object_store_memory": 80_000_000,
            "num_cpus": options.get("num_cpus", 1),
        }
        if self._nodes:
            options["address"] = HEAD
        else:
            options |= {"port": HEAD.split(":")[1], "include_dashboard": "false", "temp_dir": self._temporary}
        words = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        started = subprocess.run(
            self.inside(_beside_python("ray"), "start", *([] if self._nodes else ["--head"]), *words),
            env=os.environ | SETTINGS | {MARK: self.mark, NODE: name, "PYTHONPATH": str(ROOT)},
            stdout=(self._folder / f"{name}.out").open("wb"),
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=180,
        )
        assert started.returncode == 0, (self._folder / f"{name}.out").read_text()
        self._nodes.append(name)

    def node_of(self, pid: int) -> str:
        return environment_of(pid, NODE)

    def kill(self, name: str) -> None:
        """`kill -9` of everything on a node at once: its raylet, its workers and whatever these started."""
        self._nodes.remove(name)
        victims = [pid for pid in marked_processes(self.mark) if self.node_of(pid) == name]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # Nobody may notice before all are gone.
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def stop(self) -> None:
        for pid in marked_processes(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._network.wait()
        assert self._network.stdout is not None
        self._network.stdout.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


@contextmanager
def two_nodes(folder: Path) -> Iterator[Cluster]:
    """A head and a second node of one CPU each; the second has a label, a custom resource, and says it has a GPU."""
    cluster = Cluster(folder)
    try:
        cluster.start("head", "127.0.0.1")
        cluster.start("second", "127.0.0.2", num_gpus=1, resources='{"fast": 1}', labels="zone=b")
        yield cluster
    finally:
        cluster.stop()


def environment_of(pid: int, name: str) -> str:
    """A variable of a process's environment; empty when it is not set, or the process is gone."""
    try:
        variables = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    found = [one for one in variables if one.startswith(f"{name}=".encode())]
    return found[0].decode().partition("=")[2] if found else ""


def _beside_python(program: str) -> str:
    return str(Path(sys.executable).parent / program)
