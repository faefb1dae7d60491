"""`python -m scaling.launch`: plan a study, train what is missing, draw the report."""

import sys

from scaling.__main__ import launch

if __name__ == "__main__":
    sys.exit(launch())
