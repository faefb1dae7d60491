"""What is wrong with the data rather than with the program."""

from scaling.errors import UserError


class CorruptShardError(UserError):
    """A shard is not what a shard must be; the text names shard and member."""


class CorruptSampleError(CorruptShardError):
    """One sample cannot be used, while the rest of its shard can; the text names shard and key."""
