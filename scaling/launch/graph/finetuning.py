"""Fine-tuning as follow-ups: a pre-training run has ended, so its rates are tried; they have ended, so one of them is
taken and trained with every seed; these have ended, so their mean is the record of the pre-training run, or of weights
of another maker."""

from collections.abc import Mapping, Sequence

from scaling.launch.graph.study_graph import Derived, FollowUp
from scaling.plan.finetune.choose import Row, conclude, take_best, tried
from scaling.plan.finetune.planner import FineTuning
from scaling.records.study import RunRecord

Records = Mapping[str, RunRecord]


def finetuning_follow_up(job: FineTuning) -> FollowUp:
    """What follows a pre-training run for one planned fine-tuning."""
    return FollowUp(
        f"{job.evaluation.name} of {job.trained.run_id}",
        (job.trained.run_id,),
        lambda records: _after(job, records[job.trained.run_id]),
        foreseen=job.foreseen(),
    )


def _after(job: FineTuning, trained: RunRecord) -> Derived:
    if trained.result is None:
        return Derived(notes=(f"no {job.name}: that run has no result",))
    return _begin(job, trained.result.weights_sha256)


def weights_follow_up(job: FineTuning, weights_sha256: str) -> FollowUp:
    """What follows for weights that no run of the study has trained, at once."""
    return FollowUp(
        f"{job.evaluation.name} of {job.trained.run_id}",
        (),
        lambda records: _begin(job, weights_sha256),
        foreseen=job.foreseen(),
    )


def _begin(job: FineTuning, weights: str) -> Derived:
    trials = job.trials(weights)
    if not trials:
        return _finals(job, weights, job.values.learning_rates[0], ())

    def choose(records: Records) -> Derived:
        diverged = tuple(run_id for run_id, record in records.items() if record.standing.has_diverged)
        open_ones = [run_id for run_id in records if records[run_id].result is None and run_id not in diverged]
        if open_ones:
            return Derived(notes=(f"{job.name}: no rate is taken, because {_no_result(open_ones[0], records)}",))
        rate, rows = take_best(tried(trials, records))
        if rate is None:
            told = ", ".join(f"{one:g}" for one in trials)
            return Derived(notes=(f"{job.name}: every rate diverged ({told}); write lower learning_rates",))
        follows = _finals(job, weights, rate, rows)
        note = f"{job.name}: rate {rate:g} is taken ({_told(rows)} on {rows[0]['dev_images']:,} held-out images)"
        return Derived(follows.plans, follows.follow_ups, notes=(note,), answered=diverged)

    plans = tuple(trials.values())
    finals = tuple(job.finals(weights, job.values.learning_rates[0]).values())
    after = tuple(plan.run_id for plan in plans)
    return Derived(plans, (FollowUp(f"a rate for {job.name}", after, choose, foreseen=finals),))


def _finals(job: FineTuning, weights: str, rate: float, rows: Sequence[Row]) -> Derived:
    finals = job.finals(weights, rate)

    def record(records: Records) -> Derived:
        found = conclude(job, rows, finals, records)
        if found is None:
            first = next(run_id for run_id in records if records[run_id].result is None)
            return Derived(notes=(f"{job.name}: no score, because {_no_result(first, records)}",))
        name = job.evaluation.name
        note = f"{job.name}: top-1 {100 * found.metrics[f'{name}/top1']:.2f} %, mean of {len(finals)} seeds"
        return Derived(records=(found,), notes=(note,))

    plans = tuple(finals.values())
    return Derived(plans, (FollowUp(f"the score of {job.name}", tuple(plan.run_id for plan in plans), record),))


def _no_result(run_id: str, records: Records) -> str:
    """With the way out."""
    return f"{run_id} has no result ({records[run_id].standing.damage or '--retry-failed'})"


def _told(rows: Sequence[Row]) -> str:
    """`0.01: 61.0 %, 0.1: diverged`"""
    return ", ".join(
        f"{row['learning_rate']:g}: " + ("diverged" if row["dev_top1"] is None else f"{100 * row['dev_top1']:.1f} %")
        for row in rows
    )
