"""`python -m scaling.evaluate`: score trained weights after the fact."""

import sys

from scaling.__main__ import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
