"""mixup (arXiv 1710.09412): every image and its targets are blended with another one of the same global batch.

As in big_vision there is one share per batch, drawn from Beta(alpha, alpha) and at least one half. The partner of the
image at place i of a batch of B is at place i + B/2 (mod B), where big_vision takes the next one of a device: samples
come in random order, so the two are alike in distribution, and place i + B/2 is on the same process for every number of
processes that divides B/2. The share is a function of (seed, step), so a mixed batch is the same on all of them.
Blending targets is blending losses, because both losses are linear in the targets.
"""

from scaling.data.select.random_streams import RandomStream, generator


def mixing_share(seed: int, step: int, alpha: float) -> float:
    """Share of an image itself in the mixture, in [0.5, 1]; of its partner, 1 minus that."""
    share = float(generator(seed, RandomStream.MIXUP, step).beta(alpha, alpha))
    return max(share, 1.0 - share)


def partners(rows: slice, num_rows: int) -> list[int]:
    """Where, in one process's `num_rows` rows of a batch, the partners of `rows` are; `num_rows` must be even."""
    assert num_rows % 2 == 0, num_rows
    return [(row + num_rows // 2) % num_rows for row in range(rows.start, min(rows.stop, num_rows))]
