"""Few open files: a launcher takes what the system allows, and says what is missing before anything is started."""

import resource
import subprocess
import sys

import pytest

CODE = """
import resource, sys
from scaling.errors import UserError
from scaling.launch.backends.local.open_files import allow_open_files

resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
try:
    allow_open_files(4)
except UserError as error:
    print(error)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "told"),
    [
        (40, 1000, "96 1000"),
        (500, 1000, "500 1000"),
        (
            40,
            40,
            "this process may open 40 files, and training 4 processes at a time takes up to 96; raise the limit "
            "(ulimit -n 96), or start fewer runs at a time (--max-parallel)\n40 40",
        ),
    ],
)
def test_the_limit_is_raised_or_named(soft: int, hard: int, told: str) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 1000
    answer = subprocess.run([sys.executable, "-c", CODE.format(soft=soft, hard=hard)], capture_output=True, text=True)
    assert answer.stdout.rstrip() == told, answer.stderr
