"""`python -m scaling.evaluate`: score trained weights after the fact."""

import sys

from scaling.errors import run_command
from scaling.evaluate.command import main

if __name__ == "__main__":
    sys.exit(run_command(main))
