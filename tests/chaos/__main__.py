"""`python -m tests.chaos --minutes 10 --seed N`: random attacks on a tiny study, and a table of what they did.

Every trial attacks a fresh copy of one planned run a few times (kills, signals, pauses, races, small disks, damaged,
cut and deleted files), then launches the study until it is done and compares every number with those of a run that
nobody attacked. The same seed draws the same attacks; their moments depend on the machine.
exit code: 0 when no number changed, no traceback was printed and no run was lost, else 1.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling.readable import plain_table
from tests.chaos.attacks import ATTACKS
from tests.chaos.study import Trial, differences, make_study, new_trial, numbers

COLUMNS = ("tried", "survived", "refused", "numbers changed", "tracebacks", "lost")
"""refused: a launcher stopped with a sentence before the run could be finished by following it."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to start new trials (default: 1)")
    parser.add_argument("--seed", type=int, help="draws the attacks (default: a fresh one, printed)")
    parser.add_argument("--keep", action="store_true", help="keep the folders of trials that went wrong")
    args = parser.parse_args(argv)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    counts = {attack.__name__: Counter[str]() for attack in ATTACKS}
    total: Counter[str] = Counter()
    try:
        sweep = make_study(folder)
        reference = _reference(sweep, folder)
        draw = np.random.default_rng(seed)
        deadline = time.monotonic() + 60 * args.minutes
        while time.monotonic() < deadline or not total["tried"]:
            trial = new_trial(sweep, folder / "planned", folder / f"trial-{total['tried']}")
            attacks = [ATTACKS[int(draw.integers(len(ATTACKS)))] for _ in range(int(draw.integers(1, 4)))]
            outcome = _attempt(trial, [(attack, draw.spawn(1)[0]) for attack in attacks], reference)
            total.update(outcome)
            for name in {attack.__name__ for attack in attacks}:
                counts[name].update(outcome)
            if not outcome["numbers changed"] + outcome["tracebacks"] + outcome["lost"] or not args.keep:
                shutil.rmtree(trial.out, ignore_errors=True)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    rows = [[name, *(str(counts[name][column]) for column in COLUMNS)] for name in counts]
    rows.append(["all trials", *(str(total[column]) for column in COLUMNS)])
    print(plain_table(["attack", *COLUMNS], rows))
    print(f"seed {seed}: {total['tried']} trials")
    return 1 if total["numbers changed"] + total["tracebacks"] + total["lost"] else 0


def _reference(sweep: Path, folder: Path) -> dict[str, object]:
    """The numbers of the unbroken run; leaves the planned and untrained study in `planned`."""
    trial = Trial(sweep, folder / "reference")
    assert trial.finish(), trial.refusals + trial.tracebacks
    planned = folder / "planned" / "tiny"
    planned.mkdir(parents=True)
    for name in ("study.yaml", "plan.json", "models.json"):
        if (trial.out / "tiny" / name).exists():
            shutil.copy(trial.out / "tiny" / name, planned / name)
    (planned / trial.run_dir.name).mkdir()
    shutil.copy(trial.run_dir / "run.json", planned / trial.run_dir.name / "run.json")
    return numbers(trial.run_dir)


def _attempt(trial: Trial, attacks: list, reference: dict[str, object]) -> Counter[str]:  # type: ignore[type-arg]
    """Attack, finish, compare; what counts of this trial."""
    names = ", ".join(attack.__name__ for attack, _ in attacks)
    for attack, draw in attacks:
        attack(trial, draw)
    is_done = trial.finish()
    wrong = differences(reference, numbers(trial.run_dir), trial.damaged) if is_done else []
    outcome = Counter({"tried": 1})
    outcome["refused"] = int(bool(trial.refusals))
    outcome["tracebacks"] = int(bool(trial.tracebacks))
    outcome["numbers changed"] = int(bool(wrong))
    outcome["lost"] = int(not is_done)
    outcome["survived"] = int(is_done and not wrong)
    if wrong or trial.tracebacks or not is_done:
        print(f"--- {trial.out.name}: {names}; damaged: {', '.join(sorted(trial.damaged)) or 'nothing'}")
        print("\n".join([*wrong[:10], *(text[-3000:] for text in trial.tracebacks), *trial.refusals[-1:]]))
        sys.stdout.flush()
    return outcome


if __name__ == "__main__":
    sys.exit(main())
