import sys

from scaling.bench.command import main
from scaling.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
