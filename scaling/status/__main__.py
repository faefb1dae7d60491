import sys

from scaling.errors import run_command
from scaling.status.command import main

if __name__ == "__main__":
    sys.exit(run_command(main))
