"""Data that a study can make for itself: built before planning when its manifests are missing.

The making is `python -m scaling.data make` in a process of its own, exactly as a person would run it; a study with
data of its own has no `make` and gets the missing manifest's name from planning.
"""

import subprocess
import sys
from pathlib import Path

from scaling.data.storage.remote import is_url
from scaling.errors import UserError
from scaling.spec.study import Study


def ensure_data(study: Study) -> None:
    """Make the study's data when it says how and some manifest is missing."""
    data = study.data
    if data.make is not None and is_url(data.root):
        raise UserError(f"data.root {data.root}: data is made in folders only; make it there, copy it, drop data.make")
    if data.make is None or all((Path(data.root) / name).exists() for name in (data.train, data.val)):
        return
    if not data.root:
        raise UserError(
            "data.make needs data.root, the folder to make the shards in; add for example root: data/jft-like"
        )
    command = [sys.executable, "-m", "scaling.data", "make", data.root]
    for name, value in data.make.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    print(f"making the data: python {' '.join(command[1:])}", file=sys.stderr)
    if subprocess.run(command, check=False).returncode != 0:
        raise UserError(f"data.make: the data could not be made in {data.root}; the reason stands above")
