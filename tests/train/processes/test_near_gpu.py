"""Cores beside a GPU: what Linux tells of them, and what the kernel then lets a process use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scaling.train.processes.near_gpu import parse_cpu_list, pci_address

ADDRESS = "0000:4b:00.0"

STAY = """
import os, sys
from pathlib import Path
from scaling.train.processes.near_gpu import stay_beside
stay_beside(sys.argv[1], Path(sys.argv[2]))
print(sorted(os.sched_getaffinity(0)))
"""


def cores_after(folder: Path, cpu_list: str | None) -> list[int]:
    """What a process may use once it stays beside a device of which Linux tells this."""
    device = folder / ADDRESS
    device.mkdir()
    if cpu_list is not None:
        (device / "local_cpulist").write_text(f"{cpu_list}\n")
    command = [sys.executable, "-c", STAY, ADDRESS, str(folder)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[int] = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0", {0}), ("0-3,8,10-11\n", {0, 1, 2, 3, 8, 10, 11}), ("48-49,96-97", {48, 49, 96, 97})],
)
def test_the_kernels_form_of_a_list(text: str, numbers: set[int]) -> None:
    assert parse_cpu_list(text) == numbers


def test_a_process_stays_on_those_of_its_cores(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    assert cores_after(tmp_path, f"{last}-{last + 7}") == [last]


@pytest.mark.parametrize("cpu_list", [None, "", "cores", "9999"])
def test_it_keeps_all_where_none_is_beside_or_nothing_is_told(cpu_list: str | None, tmp_path: Path) -> None:
    assert cores_after(tmp_path, cpu_list) == sorted(os.sched_getaffinity(0))


def test_a_device_is_found_by_its_address_in_hexadecimal() -> None:
    assert pci_address(SimpleNamespace(pci_domain_id=0, pci_bus_id=0x4B, pci_device_id=0)) == ADDRESS
    assert pci_address(SimpleNamespace(name="an older PyTorch")) is None
