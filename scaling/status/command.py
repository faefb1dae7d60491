"""`python -m scaling.status STUDY_DIR`: where every run of a study stands, read from its folders alone.

Why a run waits is what its scheduler said when a launcher or a job asked last; how long ago that was stands beside it.
It needs no scheduler and writes nothing, so it may be asked at any time from any machine that sees the folder. The
folder of one run is an answer too.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.readable import plain_table, short_time
from scaling.records.attempts.causes import Cause
from scaling.records.ownership.lease import LifeWatch
from scaling.records.run_dir import RunDir
from scaling.records.scheduler_word import RunWord, SchedulerWord
from scaling.records.study import RunRecord, StudyRecords, load_run, read_study
from scaling.status.live import LastWords, last_words, seconds_left
from scaling.status.scheduler import Waiting, load_word, requeues, requeues_text, waiting, word_of

EPILOG = """\
examples:
  python -m scaling.status runs/quickstart
  python -m scaling.status runs/quickstart --watch
  python -m scaling.status runs/quickstart/mixer-laptop-32px_003pct_s0-e1d0d320
"""

WATCH_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 when some runs failed."""
    parser = argparse.ArgumentParser(
        prog="python -m scaling.status",
        description="Where every run of a study stands.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="STUDY_DIR", help="RUNS/<study>, or the folder of one of its runs")
    parser.add_argument("--json", action="store_true", help="one object per run on stdout")
    parser.add_argument("--watch", action="store_true", help="print again every two seconds until all runs ended")
    args = parser.parse_args(argv)
    life = LifeWatch()
    while True:
        study, word = _load(args.folder, life), load_word(args.folder)
        rows = [describe(record, word) for record in study.runs]
        print(json.dumps(rows, indent=2) if args.json else _table(rows, word))
        # Runs that left the plan are shown, and nobody will take them further.
        if not args.watch or all(record.standing.has_ended for record in study.runs if record.in_plan):
            return 1 if study.damaged or any("failed" in row["status"] for row in rows) else 0
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)
        print()


def _load(folder: Path, life: LifeWatch) -> StudyRecords:
    """The records of a study, or of the one run whose folder it is."""
    if RunDir(folder).plan.exists():
        return StudyRecords((load_run(folder, watch=life),), ())
    return read_study(folder, life)


def describe(record: RunRecord, word: SchedulerWord | None = None) -> dict[str, Any]:
    """One run as plain values: status, progress, the kept weights' scores, of a running one its last words, and of one
    that waits those of its scheduler (`word`)."""
    state, standing = record.state, record.standing
    said = word_of(record, word)
    waits = waiting(said, word.scheduler) if word and said and not standing.is_alive else None
    is_on_its_way = standing.is_alive or standing.is_finished or (waits is not None and waits.status != "lost")
    again = requeues(standing.ends, is_on_its_way=is_on_its_way)
    # A process that holds the run may not have said anything yet: it is starting.
    has_reported = standing.is_alive and state.heartbeat_unix_time > 0
    words = last_words(record.run_dir) if standing.is_alive else LastWords()
    left = seconds_left(state, record.plan.schedule.steps, words.pause_share) if standing.is_alive else None
    return {
        "run_id": record.plan.run_id,
        "in_plan": record.in_plan,
        "trial": record.plan.trial.model_dump(include={"cell", "number", "round", "values"})
        if record.plan.trial
        else None,
        "chosen": record.plan.choice.values if record.plan.choice else None,
        "status": waits.status if waits else standing.told,
        "attempt": state.attempt,
        "step": state.step,
        "steps": record.plan.schedule.steps,
        "images": record.plan.subset.num_samples,
        "host": state.host,
        "job": state.job,
        "heartbeat_age_seconds": round(state.heartbeat_age_seconds(), 1) if has_reported else None,
        "loss": words.loss,
        "last_validation": words.precision_at_1,
        "last_validation_step": words.validation_step,
        "seconds_left": None if left is None else round(left, 1),
        "scoring": state.scoring if standing.is_alive else "",
        "requeues": {cause.value: count for cause, count in again.items()},
        "scheduler": said and {**said.model_dump(exclude={"unix_time"}), "age_seconds": round(said.age_seconds(), 1)},
        "error": _trouble(record, waits, said),
        "stopped_early": record.result is not None and record.result.stopped_early,
        "metrics": record.metrics,
    }


def _trouble(record: RunRecord, waits: Waiting | None, said: RunWord | None) -> str:
    """What a person should know of a run: why it waits, what went wrong, that it hangs."""
    if record.standing.is_alive:
        # Of a run that works its scheduler has nothing to say.
        return said.reason if said is not None and said.phase == "running" else ""
    return waits.reason if waits else record.standing.reason


def _table(rows: Sequence[dict[str, Any]], word: SchedulerWord | None) -> str:
    cells = [
        [
            row["run_id"],
            row["status"] + (", early" if row["stopped_early"] else "") + ("" if row["in_plan"] else " (not in plan)"),
            f"{row['step']:,}/{row['steps']:,}",
            str(row["attempt"]),
            _upstream(row),
            "-" if row["loss"] is None else f"{row['loss']:.4g}",
            "-" if row["seconds_left"] is None else short_time(row["seconds_left"]),
            "; ".join(part for part in (_where(row), row["error"], _again(row)) if part),
        ]
        for row in rows
    ]
    counts = Counter(row["status"] for row in rows)
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    headers = ["run", "status", "step", "attempt", "upstream", "loss", "left", "where / error"]
    num_trials = sum(row["trial"] is not None for row in rows)
    searched = f" ({num_trials} of them trials of a search)" if num_trials else ""
    text = f"{plain_table(headers, cells)}\n\n{len(rows)} runs{searched}: {summary}"
    if word is not None and word.silent_since is not None:
        silent = short_time(max(0.0, time.time() - word.silent_since))
        text += f"\n{word.scheduler} was asked in vain, first {silent} ago: {word.silence}"
    return text


def _upstream(row: dict[str, Any]) -> str:
    """Precision at 1 of the kept weights, or of the last validation of a run on its way."""
    value = row["metrics"].get("upstream/precision_at_1", row["last_validation"])
    return "-" if value is None else f"{100 * value:.1f} %"


def _again(row: dict[str, Any]) -> str:
    return requeues_text(Counter({Cause(cause): count for cause, count in row["requeues"].items()}))


def _where(row: dict[str, Any]) -> str:
    """Machine and job, and for a run on its way how old its last word is; empty for one that waits or went wrong."""
    if row["error"] and row["heartbeat_age_seconds"] is None:
        return ""
    scoring = f", scoring {row['scoring']}" if row["scoring"] else ""
    age = row["heartbeat_age_seconds"]
    if row["status"] == "running" and age is None:
        return "starting"
    heard = "" if age is None else f", heard of {short_time(age)} ago"
    return row["host"] + (f" {row['job']}" if row["job"] else "") + scoring + heard
