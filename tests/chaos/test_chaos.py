"""A minute of random attacks with a seed that differs each time; a failure prints the seed that repeats it."""

import subprocess
import sys


def test_a_minute_of_attacks_changes_no_number() -> None:
    """In a process of its own, whose warm server has seen nothing else."""
    tool = subprocess.run([sys.executable, "-m", "tests.chaos", "--minutes", "1"], capture_output=True, text=True)
    print(tool.stdout, tool.stderr)
    assert tool.returncode == 0
