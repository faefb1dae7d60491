"""`python -m scaling.data`: make, build, index, check, select and look at shards."""

import sys

from scaling.__main__ import data

if __name__ == "__main__":
    sys.exit(data())
