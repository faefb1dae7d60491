"""A minute of random attacks with a seed that differs each time; a failure prints the seed that repeats it."""

from tests.chaos.__main__ import main


def test_a_minute_of_attacks_changes_no_number() -> None:
    assert main(["--minutes", "1"]) == 0
