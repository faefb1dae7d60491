"""A uniform random permutation of more lines than fit into memory.

Each line goes to a random one of a few spool files; then the files are read one after the other and each is shuffled
in memory. Every permutation of the lines is equally likely, and the result is a function of lines and seed.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

import numpy as np

NUM_SPOOLS = 64
"""For 300 million lines of 40 bytes, a spool holds 190 MB."""


def shuffled(lines: Iterable[bytes], seed: int) -> Iterator[bytes]:
    """The lines, each without its line feed, in random order. Reads `lines` to the end first."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    with ExitStack() as stack:
        spools = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(NUM_SPOOLS)]
        for line in lines:
            spools[int(generator.integers(NUM_SPOOLS))].write(line + b"\n")
        for spool in spools:
            spool.seek(0)
            part = spool.read().splitlines()
            for index in generator.permutation(len(part)):
                yield part[index]
