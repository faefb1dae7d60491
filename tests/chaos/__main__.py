"""`python -m tests.chaos --minutes 10 --seed N`: random attacks on a tiny study, and a table of what they did.

Every trial attacks a fresh copy of a study of two runs, one of them trained, a few times: kills, signals, pauses and
races of launchers and runs; full disks, few handles, little memory; damaged, cut, exchanged and deleted records, shards
and folders. Then it launches the study until it is done, doing what refusals ask for, and compares every number with
those of a study that nobody attacked. The same seed draws the same attacks; their moments depend on the machine.
exit code: 0 when no number changed, no traceback was printed, nothing hung or was left running and no run was lost,
else 1.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver
from pathlib import Path

import numpy as np

from scaling.readable import plain_table
from tests.chaos.files import FILE_ATTACKS
from tests.chaos.limits import LIMIT_ATTACKS
from tests.chaos.numbers import differences, numbers
from tests.chaos.processes import PROCESS_ATTACKS
from tests.chaos.study import TRACEBACK, ChaosStudy, Trial

Attack = Callable[[Trial, np.random.Generator], None]

ATTACKS: tuple[Attack, ...] = (*PROCESS_ATTACKS, *FILE_ATTACKS, *LIMIT_ATTACKS)

FAULTS = ("numbers changed", "tracebacks", "hung", "left running", "lost")

COLUMNS = ("tried", "survived", "refused", *FAULTS)
"""refused: a launcher stopped with a sentence before the study could be finished by following it."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to start new trials (default: 1)")
    parser.add_argument("--seed", type=int, help="draws the attacks (default: a fresh one, printed)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes of a run (default: 1)")
    parser.add_argument("--only", nargs="+", default=[], metavar="ATTACK", help="draw these attacks alone")
    parser.add_argument("--first", type=int, default=0, metavar="TRIAL", help="leave out the trials before this one")
    parser.add_argument("--keep", action="store_true", help="keep the folders of trials that went wrong")
    args = parser.parse_args(argv)
    attacks = [attack for attack in ATTACKS if not args.only or attack.__name__ in args.only]
    if not attacks or args.processes < 1:
        parser.error(f"--only takes {', '.join(attack.__name__ for attack in ATTACKS)}; --processes a number from 1")
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    counts = {attack.__name__: Counter[str]() for attack in attacks}
    total: Counter[str] = Counter()
    words = folder / "trainers.txt"
    try:
        _start_warm_server(words)
        study = ChaosStudy(folder, args.processes)
        print(f"an undisturbed start takes {study.train_seconds:.0f} s", flush=True)
        deadline = time.monotonic() + 60 * args.minutes
        number = args.first
        while time.monotonic() < deadline or not total["tried"]:
            # A trial is drawn by seed and number alone, so that one can be repeated.
            draw = np.random.default_rng([seed, number])
            chosen = [attacks[int(draw.integers(len(attacks)))] for _ in range(int(draw.integers(1, 4)))]
            trial = study.new_trial(number)
            outcome = _attempt(trial, number, chosen, draw, words)
            total.update(outcome)
            for name in {attack.__name__ for attack in chosen}:
                counts[name].update(outcome)
            if not args.keep or not any(outcome[fault] for fault in FAULTS):
                trial.remove()
            number += 1
    finally:
        if not args.keep or not any(total[fault] for fault in FAULTS):
            shutil.rmtree(folder, ignore_errors=True)
    rows = [[name, *(str(counts[name][column]) for column in COLUMNS)] for name in counts if counts[name]]
    rows.append(["all trials", *(str(total[column]) for column in COLUMNS)])
    print(plain_table(["attack", *COLUMNS], rows))
    print(f"seed {seed}: {total['tried']} trials")
    return 1 if any(total[fault] for fault in FAULTS) else 0


def _attempt(
    trial: Trial, number: int, attacks: Sequence[Attack], draw: np.random.Generator, words: Path
) -> Counter[str]:
    """Attack, ask, finish, ask again, compare; what counts of this trial."""
    said_before = words.stat().st_size
    for attack in attacks:
        attack(trial, draw)
    if draw.random() < 0.5:
        trial.ask(*_question(trial, draw))
    is_done = trial.finish()
    trial.ask("scaling.status", str(trial.study_dir))
    left = trial.left_running()
    found = {run_id: numbers(trial.study_dir / run_id) for run_id in trial.study.run_ids} if is_done else {}
    wrong = [
        f"{run_id}: {difference}"
        for run_id in found
        for difference in differences(trial.study.numbers[run_id], found[run_id], trial.damaged)
    ]
    trial.look_for_tracebacks()
    spoken = words.read_bytes()[said_before:].decode(errors="replace")
    if TRACEBACK in spoken:
        trial.faults.append(spoken)
    trial.study.restore_data()
    outcome = Counter({"tried": 1, "refused": int(bool(trial.refusals)), "lost": int(not is_done)})
    outcome |= {"numbers changed": int(bool(wrong)), "tracebacks": int(bool(trial.faults))}
    outcome |= {"hung": int(bool(trial.hangs)), "left running": int(left > 0)}
    outcome["survived"] = int(is_done and not wrong)
    said = ", ".join(fault for fault in FAULTS if outcome[fault]) or "survived"
    print(f"trial {number}: {', '.join(attack.__name__ for attack in attacks)}: {said}", flush=True)
    if any(outcome[fault] for fault in FAULTS):
        print(f"damaged: {', '.join(sorted(trial.damaged)) or 'nothing'}")
        print("\n".join([*wrong[:10], *(text[-4000:] for text in trial.faults + trial.hangs)]))
        if not is_done:
            print("\n".join(trial.refusals[-1:]))
        sys.stdout.flush()
    return outcome


def _question(trial: Trial, draw: np.random.Generator) -> tuple[str, ...]:
    """One of the commands that read, asked while the damage is there."""
    folder = str(trial.study_dir)
    dry_run = ("scaling.launch", str(trial.study.sweep), "--out", str(trial.out), "--dry-run")
    questions = (("scaling.status", folder), ("scaling.status", folder, "--json"), ("analysis", folder), dry_run)
    return questions[int(draw.integers(len(questions)))]


def _start_warm_server(words: Path) -> None:
    """Start the server that runs without a launcher are forked from; what they say before their log is open goes to
    `words`."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["scaling.train.processes.preload"])
    with _stderr_to(words):
        forkserver.ensure_running()


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with path.open("ab") as stream:
            os.dup2(stream.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


if __name__ == "__main__":
    sys.exit(main())
