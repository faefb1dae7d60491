"""What else a machine did while it was measured: the work of other processes on its cores and its GPU.

The load average of the last minute would still tell of the study that has just ended; the kernel's count of busy time,
less that of the measuring process, tells exactly what others did inside the timed turns.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MOST_OF_OWN_CORES = 0.05
"""Share of its own cores that others may take from a measurement before it is marked."""

MOST_ELSEWHERE = 0.25
"""Cores that others may keep busy elsewhere on the machine; they share its memory and its clock."""

SHARE_ELSEWHERE = 0.05
"""The same as a share of the machine's cores, where that is more."""

_UNKNOWN_LOAD = "nobody could tell whether other processes were busy"
_UNKNOWN_GPU = "nobody could tell whether other processes used the GPU"


class Surroundings:
    """Watches the machine during the turns inside `watching`. Make it before anything touches the GPU."""

    def __init__(self, cores: Sequence[int], gpu: str | None = None, *, is_shared: bool = False) -> None:
        """`cores` are those that this process runs on, `gpu` the UUID of its GPU; `is_shared`: another launcher's runs
        hold them."""
        self._cores, self._gpu, self._is_shared = cores, gpu, is_shared
        self._wall = self._own = self._on_own_cores = self._everywhere = 0.0
        self._is_known = True
        self._rivals_before = gpu_processes(gpu) if gpu else 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """One timed turn."""
        before, wall, own = busy_seconds(), time.perf_counter(), time.process_time()
        yield
        self._wall += time.perf_counter() - wall
        self._own += time.process_time() - own
        after = busy_seconds()
        if not before or not after:
            self._is_known = False
            return
        spent = {core: seconds - before.get(core, 0.0) for core, seconds in after.items()}
        self._everywhere += sum(spent.values())
        self._on_own_cores += sum(spent.get(core, 0.0) for core in self._cores)

    def disturbances(self, *, on_gpu: bool) -> tuple[str, ...]:
        """What disturbed the turns so far, in words."""
        told = ["another launcher's runs held its devices"] if self._is_shared else []
        told += self._load_words()
        if on_gpu:
            told += self._gpu_words()
        return tuple(told)

    def _load_words(self) -> list[str]:
        if not self._is_known or not self._wall:
            return [_UNKNOWN_LOAD]
        num_cores = os.cpu_count() or 1
        on_own = (self._on_own_cores - self._own) / self._wall
        elsewhere = (self._everywhere - self._on_own_cores) / self._wall
        told = []
        if on_own > MOST_OF_OWN_CORES * len(self._cores):
            count = len(self._cores)
            told.append(f"other processes took {on_own:.2f} of its {count} core{'s' * (count > 1)}")
        if elsewhere > max(MOST_ELSEWHERE, SHARE_ELSEWHERE * num_cores):
            told.append(f"other processes kept {elsewhere:.1f} more of {num_cores} cores busy")
        return told

    def _gpu_words(self) -> list[str]:
        now = gpu_processes(self._gpu) if self._gpu else None
        if self._rivals_before is None or now is None:
            return [_UNKNOWN_GPU]
        # Process numbers differ between a container and the driver, so they are counted; one of them is this one.
        rivals = max(self._rivals_before, now - 1)
        return [f"{rivals} other process{'es' * (rivals > 1)} used the GPU"] if rivals > 0 else []


def busy_seconds(path: Path = Path("/proc/stat")) -> dict[int, float]:
    """Seconds that each core has worked since the machine started, for anybody, and those that a host of virtual
    machines took away from it (`steal`); empty where the system does not tell (proc(5))."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    tick = os.sysconf("SC_CLK_TCK")
    cores = {}
    for number, line in re.findall(r"^cpu(\d+) (.+)$", text, re.MULTILINE):
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
        ticks = [int(word) for word in line.split()[:8]]
        cores[int(number)] = (sum(ticks) - ticks[3] - ticks[4]) / tick
    return cores


def gpu_processes(uuid: str) -> int | None:
    """How many processes compute on a GPU now, by the driver's own tool; None where it does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-compute-apps=pid", "--format=csv,noheader", "-i", uuid]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode != 0 or not all(line.isdecimal() for line in lines):
        return None
    return len(lines)


def gpu_model(uuid: str) -> str:
    """Name of a GPU as its driver reports it; empty where the driver's tool does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=name", "--format=csv,noheader", "-i", uuid]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""
