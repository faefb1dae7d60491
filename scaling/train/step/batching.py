"""Global batch = processes x micro-batch x accumulation: how a rank's share of a batch is cut into passes."""

from dataclasses import dataclass

from scaling.errors import UserError


@dataclass(frozen=True, slots=True)
class Batching:
    """How one rank works through its share of the global batch."""

    world: int
    share: int
    """Examples of a global batch that one rank takes."""
    micro_batch: int
    """Examples of one forward and backward pass."""
    accumulation: int
    """Passes per optimiser step."""


def plan_batching(batch: int, world: int, max_micro_batch: int, *, in_pairs: bool = False) -> Batching:
    """Cut a global batch for `world` processes, with the largest micro-batch up to `max_micro_batch`.

    The number of processes may differ from the planned one after a restart; what must hold is that every step
    consumes exactly the global batch, and that pairs of it (`in_pairs`, for mixup) stay on one process.
    """
    workable = [n for n in range(1, batch + 1) if batch % (2 * n if in_pairs else n) == 0]
    if world not in workable:
        raise UserError(
            f"a global batch of {batch}{' in pairs (mixup)' if in_pairs else ''} does not divide over {world} "
            "processes; start one of " + ", ".join(map(str, workable))
        )
    share = batch // world
    micro_batch = max(size for size in range(1, min(max_micro_batch, share) + 1) if share % size == 0)
    return Batching(world, share, micro_batch, share // micro_batch)
