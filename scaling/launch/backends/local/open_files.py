"""Whether a launcher may open as many files as its runs take: Python's fork server answers too few with tracebacks."""

import resource

from scaling.errors import UserError

OWN_FILES, FILES_PER_PROCESS = 64, 8
"""Of a launcher with its libraries, and for each training process at a time; about twice what was seen."""


def allow_open_files(num_processes: int) -> None:
    """Raise the limit of this process, which those that it starts inherit, if it is below what `num_processes` training
    processes take; UserError where the system does not let it."""
    needed = OWN_FILES + FILES_PER_PROCESS * num_processes
    limit, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit >= needed or limit == resource.RLIM_INFINITY:
        return
    if highest < needed and highest != resource.RLIM_INFINITY:
        raise UserError(
            f"this process may open {highest} files, and training {num_processes} processes at a time takes up to "
            f"{needed}; raise the limit (ulimit -n {needed}), or start fewer runs at a time (--max-parallel)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, highest))
