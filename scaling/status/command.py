"""`python -m scaling.status STUDY_DIR`: where every run of a study stands, read from its folders alone.

It needs no scheduler and writes nothing, so it may be asked at any time from any machine that sees the folder.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.records.study import RunRecord, load_study
from scaling.tables import plain_table

EPILOG = """\
examples:
  python -m scaling.status runs/quickstart
  python -m scaling.status runs/quickstart --watch
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
    parser.add_argument("study_dir", type=Path, metavar="STUDY_DIR", help="the folder RUNS/<study>")
    parser.add_argument("--json", action="store_true", help="one object per run on stdout")
    parser.add_argument("--watch", action="store_true", help="print again every two seconds until all runs ended")
    args = parser.parse_args(argv)
    while True:
        study = load_study(args.study_dir)
        rows = [describe(record) for record in study.runs]
        print(json.dumps(rows, indent=2) if args.json else _table(rows))
        if not args.watch or all(record.standing.has_ended for record in study.runs):
            return 1 if study.damaged or any("failed" in row["status"] for row in rows) else 0
        sys.stdout.flush()
        time.sleep(WATCH_SECONDS)
        print()


def describe(record: RunRecord) -> dict[str, Any]:
    """One run as plain values: status, progress, the kept weights' scores."""
    state, standing = record.state, record.standing
    return {
        "run_id": record.plan.run_id,
        "in_plan": record.in_plan,
        "status": standing.told,
        "attempt": state.attempt,
        "step": state.step,
        "steps": record.plan.schedule.steps,
        "images": record.plan.subset.num_samples,
        "host": state.host,
        "job": state.job,
        "heartbeat_age_seconds": round(state.heartbeat_age_seconds(), 1) if standing.is_alive else None,
        "error": "" if standing.is_alive else standing.reason,
        "stopped_early": record.result is not None and record.result.stopped_early,
        "metrics": record.metrics,
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        [
            row["run_id"],
            row["status"] + (", early" if row["stopped_early"] else "") + ("" if row["in_plan"] else " (not in plan)"),
            f"{row['step']:,}/{row['steps']:,}",
            str(row["attempt"]),
            f"{100 * row['metrics']['upstream/precision_at_1']:.1f} %"
            if "upstream/precision_at_1" in row["metrics"]
            else "-",
            row["error"] or row["host"] + (f" {row['job']}" if row["job"] else ""),
        ]
        for row in rows
    ]
    counts = Counter(row["status"] for row in rows)
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    table = plain_table(["run", "status", "step", "attempt", "upstream", "where / error"], cells)
    return f"{table}\n\n{len(rows)} runs: {summary}"
