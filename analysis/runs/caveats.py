"""What a reader should know about the runs behind a number: notes for reports, and a mark in tables.

Runs that were continued, or trained again, with other threads, devices or libraries than before are marked: their
numbers are no worse, but nobody gets them again bit for bit; `scaling.records.attempts.changes` finds them. Subsets
that are no fair samples of the data set, which planning finds out, are named in a note.
"""

from collections.abc import Collection

import pandas as pd

from analysis.runs.load import Records

MARK = "†"

_MAX_NAMED = 3


def changed_runs(records: Records) -> dict[str, str]:
    """What changed, by run id; empty where nothing did or no record says."""
    if "changes" not in records.runs:
        return {}
    changes = records.runs.set_index("run_id")["changes"].fillna("")
    return {str(run_id): str(words) for run_id, words in changes.items() if words}


def mark_of(changed: Collection[str], run_ids: str) -> str:
    """The mark where one of these runs, named with spaces between, is among the `changed_runs`; else nothing."""
    return MARK if changed and any(run_id in changed for run_id in run_ids.split(" ")) else ""


def changes_note(records: Records) -> str:
    """What the mark means here, with the first runs that bear it; empty without any."""
    changed = changed_runs(records)
    if not changed:
        return ""
    named = "; ".join(f"{run_id} {words}" for run_id, words in list(changed.items())[:_MAX_NAMED])
    more = f"; and {len(changed) - _MAX_NAMED} more, in runs.csv" if len(changed) > _MAX_NAMED else ""
    return (
        f"{MARK} {len(changed)} of {len(records.runs)} runs were continued or trained again with other threads, "
        "devices, libraries or division of a batch than before, so their numbers cannot be had again bit for bit: "
        f"{named}{more}."
    )


def used_text(runs: pd.DataFrame) -> str:
    """`1 (20 runs), 2 (4 runs)`: threads per process over all runs; empty where no record says."""
    if "threads" not in runs:
        return ""
    counts = runs["threads"].value_counts().sort_index()
    if len(counts) == 1:
        return f"{counts.index[0]:g}"
    return ", ".join(f"{threads:g} ({number} runs)" for threads, number in counts.items())


def unfair_note(records: Records) -> str:
    """A sentence about runs whose subset is no fair sample of the classes; empty where all are."""
    if "label_spread" not in records.runs:
        return ""
    unfair = records.runs[records.runs["label_spread"].notna()]
    if unfair.empty:
        return ""
    spread = unfair["label_spread"].max()
    return (
        f"{len(unfair)} of {len(records.runs)} runs saw subsets that are no fair samples: label frequencies vary along "
        f"the shards of {', '.join(sorted(unfair['data'].unique()))} {spread:.3g} times as much as by chance, so that "
        "a smaller subset also holds fewer classes, or others; the study allowed it (data.allow_unfair_subsets)."
    )
