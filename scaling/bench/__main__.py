"""`python -m scaling.bench`: measure input, training and inference on this machine."""

import sys

from scaling.__main__ import bench

if __name__ == "__main__":
    sys.exit(bench())
