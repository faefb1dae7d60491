"""mixup's shares and partners: drawn as the paper says, and the same on any number of processes."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from scaling.errors import UserError
from scaling.records.attempts.contract import DONE, PREEMPTED
from scaling.train.step.losses import mixing_share, partners
from scaling.train.step.rules import plan_batching
from tests.support.ranks import codes, leave_at, start_run
from tests.support.run_folders import checkpoints


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_shares_are_the_larger_part_of_a_beta_draw(alpha: float) -> None:
    shares = [mixing_share(0, step, alpha) for step in range(1, 2001)]
    assert min(shares) >= 0.5 and max(shares) <= 1
    # Folded at one half, the distribution function is 2 F(x) - 1, because the density is symmetric.
    test = stats.kstest(shares, lambda x: 2 * stats.beta(alpha, alpha).cdf(x) - 1)
    assert test.pvalue > 0.001


def test_a_share_is_a_function_of_seed_and_step() -> None:
    assert [mixing_share(1, step, 0.5) for step in (7, 3, 7)] == [
        mixing_share(1, 7, 0.5),
        mixing_share(1, 3, 0.5),
        mixing_share(1, 7, 0.5),
    ]
    assert len({mixing_share(seed, step, 0.5) for seed in range(5) for step in range(5)}) == 25


@pytest.mark.parametrize("micro", [1, 3, 6])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_partners_are_the_same_on_any_number_of_processes(world: int, micro: int) -> None:
    """A process has every `world`-th image; a pass takes `micro` of them; pairs are half a batch apart. Where they lie
    side by side nothing is copied."""
    batch = torch.arange(24)
    found = {}
    for rank in range(world):
        mine = batch[rank::world]
        for start in range(0, len(mine), micro):
            rows = slice(start, start + micro)
            others = partners(mine, rows)
            found |= dict(zip(mine[rows].tolist(), others.tolist(), strict=True))
            lies_together = np.all(np.diff(others) == world)
            assert (others.untyped_storage().data_ptr() == batch.untyped_storage().data_ptr()) == lies_together
    assert found == {place: (place + 12) % 24 for place in range(24)}


def test_pairs_that_processes_would_part_are_refused() -> None:
    plan_batching(24, 12, 8, in_pairs=True)
    with pytest.raises(UserError, match=r"in pairs \(mixup\) does not divide over 8 processes; .* 1, 2, 3, 4, 6, 12$"):
        plan_batching(24, 8, 8, in_pairs=True)


def test_a_run_with_randaugment_and_mixup_goes_on_as_if_never_stopped(plan_tiny) -> None:
    options = ("defaults.randaugment_layers=2", "defaults.mixup=0.5", "protocol.steps=20")
    (unbroken,) = plan_tiny(*options, name="unbroken")
    (broken,) = plan_tiny(*options, name="broken")
    (plain,) = plan_tiny("protocol.steps=20", name="plain")
    assert codes(start_run(unbroken.run_dir, 1)) == [DONE]
    assert codes(start_run(broken.run_dir, 1, partial(leave_at, step=13))) == [PREEMPTED]
    assert codes(start_run(broken.run_dir, 1)) == [DONE]
    assert codes(start_run(plain.run_dir, 1)) == [DONE]
    whole, mended, other = (
        load_file(checkpoints(run.run_dir)[-1] / "state.safetensors") for run in (unbroken, broken, plain)
    )
    assert whole.keys() == mended.keys() == other.keys()
    assert all(torch.equal(whole[name], mended[name]) for name in whole)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)
