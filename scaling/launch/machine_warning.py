"""What a person should know of this machine before runs are started on it."""

from collections.abc import Sequence

from scaling.launch.backends.gpus import visible_gpus
from scaling.models.cpu_arithmetic import bf16_is_slow
from scaling.records.run_plan import RunPlan
from scaling.spec.launch_spec import LaunchSpec


def is_slow_here(launch: LaunchSpec, plans: Sequence[RunPlan]) -> bool:
    """Whether runs in bf16 are to be executed on this machine, by a CPU that has no instructions for it."""
    if launch.backend != "local" or all(plan.recipe.precision != "bf16" for plan in plans):
        return False
    return bf16_is_slow() and not visible_gpus()
