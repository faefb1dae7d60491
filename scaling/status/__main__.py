"""`python -m scaling.status`: where a study stands, from its folder."""

import sys

from scaling.__main__ import status

if __name__ == "__main__":
    sys.exit(status())
