"""CUDA_VISIBLE_DEVICES as CUDA reads it: numbers, UUIDs, shortened UUIDs, MIG instances, and where the list ends."""

import pytest

from scaling.errors import UserError
from scaling.launch.backends.gpus import Gpu, allowed_gpus

WHOLE = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8932f937-d72c-4106-c12f-20bd9faed9f6)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1b2c3d4e-0000-4106-c12f-20bd9faed9f6)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-1b2c9999-0000-4106-c12f-20bd9faed9f6)
"""

DIVIDED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaaa0d6-d33d-2b2c-524d-9e3d8d2b8a77)
"""

FIRST, SECOND, THIRD = (line.split("UUID: ")[1].rstrip(")") for line in WHOLE.splitlines())
PARTS = ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb")
UNDIVIDED = "GPU-aaaaa0d6-d33d-2b2c-524d-9e3d8d2b8a77"


@pytest.mark.parametrize(
    ("allowed", "uuids"),
    [
        (None, [FIRST, SECOND, THIRD]),
        ("", []),
        ("-1", []),
        ("2,0", [THIRD, FIRST]),
        (f"{SECOND},{FIRST}", [SECOND, FIRST]),
        ("GPU-8932f937", [FIRST]),
        ("1,7,0", [SECOND]),
        ("0,-1,1", [FIRST]),
        ("0,0", [FIRST]),
        (f"0,{FIRST}", [FIRST]),
    ],
)
def test_whole_gpus(allowed: str | None, uuids: list[str]) -> None:
    assert [gpu.uuid for gpu in allowed_gpus(WHOLE, allowed)] == uuids


@pytest.mark.parametrize(
    ("allowed", "uuids"),
    [
        (None, [*PARTS, UNDIVIDED]),
        (PARTS[1], [PARTS[1]]),
        (",".join(PARTS), list(PARTS)),
        ("0", list(PARTS)),
        ("1", [UNDIVIDED]),
        ("GPU-5d5ba0d6", list(PARTS)),
    ],
)
def test_parts_of_gpus(allowed: str | None, uuids: list[str]) -> None:
    assert [gpu.uuid for gpu in allowed_gpus(DIVIDED, allowed)] == uuids


def test_a_device_goes_by_the_name_that_the_person_gave_and_is_locked_by_its_uuid() -> None:
    assert allowed_gpus(WHOLE, "2") == (Gpu("2", THIRD),)
    assert allowed_gpus(WHOLE, None)[0] == Gpu(FIRST, FIRST)


@pytest.mark.parametrize("allowed", ["7", "GPU-77777777", "GPU-1b2c", "MIG-none", "two"])
def test_a_name_that_fits_nothing_never_falls_back_to_the_cpu(allowed: str) -> None:
    """`GPU-1b2c` begins two UUIDs."""
    with pytest.raises(UserError, match=r"CUDA_VISIBLE_DEVICES=.*no device of this machine"):
        allowed_gpus(WHOLE, allowed)


def test_a_machine_without_gpus_has_none_whatever_the_variable_says() -> None:
    assert allowed_gpus("", "0,1") == allowed_gpus("No devices found.\n", None) == ()
