"""What the exit code of a training process says; any other number means that it died without a word."""

DONE = 0
FAILED = 1
"""The run ended with an error, recorded in its state and log."""
BAD_INPUT = 2
PREEMPTED = 3
"""A checkpoint was saved; starting the run again continues it."""
BUSY = 4
"""Another living process holds the run."""
LOST_PARTNER = 5
"""Another process of the run died or stayed silent; starting the run again continues from its last checkpoint."""
