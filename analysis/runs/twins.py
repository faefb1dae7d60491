"""One trained run in two folders: it counts once, with the scores of both where both hold the same weights."""

from dataclasses import replace

from scaling.records.attempts.changes import changes_between, used_by
from scaling.records.study import RunRecord


def with_scores_of(used: RunRecord, twin: RunRecord) -> tuple[RunRecord, str]:
    """`used` with the evaluations that only its twin has, and what to say of the twin: which scores are taken from it
    and which are left out, and what it was trained with, where it differs. Both are trained."""
    assert used.result is not None and twin.result is not None
    changes = changes_between(used_by(used.result), used_by(twin.result))
    told = f"; this one was trained with {changes}" if changes else ""
    further = sorted(twin.evaluations.keys() - used.evaluations.keys())
    # Equal copies of a score say nothing new; a throughput that was timed again does.
    other = sorted(
        name
        for name in twin.evaluations.keys() & used.evaluations.keys()
        if (twin.evaluations[name].digest, twin.evaluations[name].metrics)
        != (used.evaluations[name].digest, used.evaluations[name].metrics)
    )
    if twin.result.weights_sha256 != used.result.weights_sha256:
        lost = sorted({*further, *other})
        return used, told + (f"; left out are its scores, of other weights, of {', '.join(lost)}" if lost else "")
    if other:
        told += f"; left out are its other scores of {', '.join(other)}"
    if not further:
        return used, told
    evals = [one for one in used.plan.evals if one.name not in further]
    evals += [one for one in twin.plan.evals if one.name in further]
    merged = replace(
        used,
        plan=used.plan.model_copy(update={"evals": tuple(evals)}),
        evaluations=used.evaluations | {name: twin.evaluations[name] for name in further},
    )
    return merged, f"{told}; its scores of {', '.join(further)} are taken over"
