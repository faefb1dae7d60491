"""`launch: {throughput: after}`: each model of a study measured once, when no run of it is left to disturb that.

A process of its own does it (`scaling.bench inference`), which keeps every row as it comes and never measures one
twice; so a launcher that is killed meanwhile and started again goes on where the rows end.
"""

import subprocess
import sys
from pathlib import Path

from scaling.launch.backends.base import Backend


def measure_throughput(study_dir: Path, backend: Backend) -> None:
    """Measure what is missing. That it could not be done is told and costs the study nothing: its figures then take
    the training throughput of the runs, and say so."""
    command = ["-m", "scaling.bench", "inference", "--study", str(study_dir)]
    if backend.scheduler:
        print(
            f"throughput: the runs were on {backend.scheduler}, so this machine cannot measure it; on a node like "
            f"theirs do: python {' '.join(command)}",
            file=sys.stderr,
        )
        return
    print("measuring the inference throughput of each model, alone on its device", file=sys.stderr, flush=True)
    if subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=False).returncode:
        print(f"throughput is not complete; to try again: python {' '.join(command)}", file=sys.stderr)
