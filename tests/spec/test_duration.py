"""Durations: the four suffixes, the papers' step counts, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.spec.duration import Duration

JFT_IMAGES = 302_000_000


def steps(text: object, *, batch: int = 4096, num_samples: int = JFT_IMAGES, total_steps: int | None = None) -> int:
    return Duration.parse(text).to_steps(batch=batch, num_samples=num_samples, total_steps=total_steps)


@pytest.mark.parametrize(
    ("fraction", "epochs", "expected"),
    [(0.03, 233, 515_376), (0.1, 70, 516_113), (0.3, 23, 508_740), (1.0, 7, 516_113)],
)
def test_mixer_epochs_give_the_papers_steps(fraction: float, epochs: int, expected: int) -> None:
    """Mixer, Section 3.3 on 302.0 M images at batch 4096."""
    assert steps(f"{epochs} epochs", num_samples=round(fraction * JFT_IMAGES)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (10_000, 10_000),
        ("10_000 steps", 10_000),
        ("10k", 10_000),
        ("4096 examples", 1),
        ("1M examples", 244),
        ("2%", 20),
        ("100 %", 1000),
        ("0", 0),
    ],
)
def test_every_suffix(text: object, expected: int) -> None:
    assert steps(text, total_steps=1000) == expected


def test_a_positive_duration_is_at_least_one_step() -> None:
    assert steps("0.1%", total_steps=10) == 1
    assert steps("1 example") == 1


@given(percent=st.integers(1, 100), total=st.integers(1, 10**6))
def test_percent_is_the_nearest_whole_step(percent: int, total: int) -> None:
    whole = steps(f"{percent}%", total_steps=total)
    assert whole >= 1
    assert whole == 1 or abs(100 * whole - percent * total) <= 50


@given(st.integers(0, 10**9))
def test_text_round_trip(amount: int) -> None:
    for unit in ("steps", "examples", "epochs"):
        duration = Duration.parse(f"{amount} {unit}")
        assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize("bad", ["", "ten", "5 weeks", "-3", -3, 1.5, "1.5 steps", "101%", True, None, [1]])
def test_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        Duration.parse(bad)


def test_a_run_cannot_be_a_share_of_itself() -> None:
    with pytest.raises(ValueError, match="share of the run"):
        steps("5%")
