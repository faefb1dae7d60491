"""Which harness planned a run: its version, commit and whether the checkout had uncommitted changes."""

from dataclasses import asdict

from scaling.records.provenance import describe_source
from scaling.records.run_plan import HarnessPlan


def describe_harness() -> HarnessPlan:
    """The code that runs here, as a plan keeps it."""
    return HarnessPlan(**asdict(describe_source()))
