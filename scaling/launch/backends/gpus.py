"""The GPUs that this process may use, asked of the driver's own tool: the launcher never imports PyTorch.

CUDA_VISIBLE_DEVICES names devices by number, by UUID (also shortened) or, for a part of a GPU, by the UUID of a MIG
instance; as CUDA does, a name that fits nothing ends the list. A process of CUDA sees one MIG instance at most, so each
counts as one device. Where there is none, a CPU may be slow in the precision that a study asks for.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.errors import UserError
from scaling.models.cpu_arithmetic import bf16_is_slow
from scaling.records.run_plan import RunPlan
from scaling.spec.launch_spec import LaunchSpec

_LINE = re.compile(r"^\s*(GPU|MIG)\s.*\(UUID:\s*(\S+?)\)\s*$")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that a training process can have for itself."""

    name: str
    """What CUDA_VISIBLE_DEVICES calls it: a number or a UUID."""
    uuid: str
    """What it is called whoever asks, for the lock that keeps two launchers off it."""


def visible_gpus() -> tuple[Gpu, ...]:
    """Those of this machine that CUDA_VISIBLE_DEVICES allows, in its order."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    listed = answer.stdout if answer.returncode == 0 else ""
    return allowed_gpus(listed, os.environ.get("CUDA_VISIBLE_DEVICES"))


def allowed_gpus(listing: str, allowed: str | None) -> tuple[Gpu, ...]:
    """The devices in the output of `nvidia-smi -L` that a value of CUDA_VISIBLE_DEVICES (None: not set) allows.

    UserError for names that fit no device at all while there are devices: a run would silently train on the CPU.
    """
    boards = _boards(listing)
    if allowed is None:
        return tuple(Gpu(uuid, uuid) for board, parts in boards for uuid in parts or [board])
    if not allowed.strip() or not boards:
        return ()
    found: list[Gpu] = []
    for word in (part.strip() for part in allowed.split(",")):
        devices = _devices_named(word, boards)
        if not devices:
            break
        found += [gpu for gpu in devices if gpu.uuid not in {known.uuid for known in found}]
    first = allowed.split(",")[0].strip()
    if not found and first not in ("-1", "NoDevFiles"):
        names = ", ".join(uuid for board, parts in boards for uuid in [board, *parts])
        raise UserError(
            f"CUDA_VISIBLE_DEVICES={allowed}: {first!r} is no device of this machine; name numbers below "
            f"{len(boards)} or some of {names}, or set it to nothing to train on the CPU"
        )
    return tuple(found)


def _boards(listing: str) -> list[tuple[str, list[str]]]:
    """UUID of each GPU with those of its MIG instances, in the order listed."""
    boards: list[tuple[str, list[str]]] = []
    for line in listing.splitlines():
        match = _LINE.match(line)
        if match and match[1] == "GPU":
            boards.append((match[2], []))
        elif match and boards:
            boards[-1][1].append(match[2])
    return boards


def _devices_named(word: str, boards: Sequence[tuple[str, list[str]]]) -> list[Gpu]:
    """What one word of the list means; nothing when it fits no device, or several by a shortened UUID."""
    if word.isascii() and word.isdecimal():
        if int(word) >= len(boards):
            return []
        board, parts = boards[int(word)]
        # By number CUDA takes the first instance of a divided GPU; the UUIDs reach all of them.
        return [Gpu(uuid, uuid) for uuid in parts] if parts else [Gpu(word, board)]
    if word.startswith("MIG-"):
        return [Gpu(uuid, uuid) for _, parts in boards for uuid in parts if uuid == word]
    if len(word) < 5 or not word.startswith("GPU-"):
        return []
    matching = [(board, parts) for board, parts in boards if board.startswith(word)]
    if len(matching) != 1:
        return []
    board, parts = matching[0]
    return [Gpu(uuid, uuid) for uuid in parts or [board]]


def is_slow_here(launch: LaunchSpec, plans: Sequence[RunPlan]) -> bool:
    """Whether runs in bf16 are to be executed on this machine, by a CPU that has no instructions for it."""
    if launch.backend != "local" or all(plan.recipe.precision != "bf16" for plan in plans):
        return False
    return bf16_is_slow() and not visible_gpus()
