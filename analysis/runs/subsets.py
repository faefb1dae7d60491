"""Whether the subsets of a study are fair samples of its data set; planning finds out, reports say it."""

from analysis.runs.load import Records


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
