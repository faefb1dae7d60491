"""Slots: equal, disjoint, and refused with a reason when a run does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UserError
from scaling.launch.backends.gpus import Gpu
from scaling.launch.backends.local.slots import Machine, cut_slots


@given(
    cores=st.integers(1, 64),
    gpus=st.integers(0, 8),
    devices=st.integers(1, 8),
    max_parallel=st.one_of(st.none(), st.integers(1, 16)),
)
def test_slots_never_share_a_gpu_or_on_cpu_a_core(
    cores: int, gpus: int, devices: int, max_parallel: int | None
) -> None:
    machine = Machine(tuple(range(cores)), tuple(Gpu(str(number), f"GPU-{number}") for number in range(gpus)))
    if (gpus or cores) < devices:
        with pytest.raises(UserError, match="devices_per_run"):
            cut_slots(machine, devices_per_run=devices, max_parallel=max_parallel, threads=None)
        return
    slots = cut_slots(machine, devices_per_run=devices, max_parallel=max_parallel, threads=None)
    assert min(max_parallel or 1, (gpus or cores) // devices) <= len(slots) <= (gpus or cores)
    assert all(len(slot.cores) == devices for slot in slots)
    used_gpus = [gpu for slot in slots for gpu in slot.gpus]
    assert len(used_gpus) == len(set(used_gpus)) == (len(slots) * devices if gpus else 0)
    used_cores = [core for slot in slots for process in slot.cores for core in process]
    assert set(used_cores) <= set(machine.cores)
    if not gpus:
        assert len(used_cores) == len(set(used_cores))
        assert sorted(used_cores) == sorted(core for slot in slots for core in slot.own_cores)


def test_threads_narrow_the_number_of_slots() -> None:
    machine = Machine(tuple(range(8)), ())
    slots = cut_slots(machine, devices_per_run=1, max_parallel=None, threads=4)
    assert [slot.cores for slot in slots] == [((0, 1, 2, 3),), ((4, 5, 6, 7),)]


def test_one_run_at_a_time_gets_all_cores() -> None:
    slots = cut_slots(Machine(tuple(range(8)), ()), devices_per_run=1, max_parallel=1, threads=None)
    assert [slot.threads for slot in slots] == [8]


def test_two_launchers_of_one_narrow_run_each_find_room_beside_each_other() -> None:
    slots = cut_slots(Machine(tuple(range(4)), ()), devices_per_run=1, max_parallel=1, threads=1)
    assert [slot.own_cores for slot in slots] == [[0], [1], [2], [3]]
