"""What was asked, as the record of an evaluation keeps it. No torch here: fine-tuning is concluded by a launcher."""

from typing import Any

from scaling.data.format.load_manifest import load_manifest
from scaling.evals.settings import EVALUATIONS
from scaling.records.evaluation import ScoredData
from scaling.records.run_plan import EvalPlan


def describe_evaluation(plan: EvalPlan) -> dict[str, Any]:
    """The fields of `scaling.records.evaluation.Evaluation` that follow from what was asked."""
    protocol = EVALUATIONS[plan.kind].protocol or plan.kind
    return {
        "name": plan.name,
        "kind": plan.kind,
        "digest": plan.digest(),
        "protocol": f"{protocol} (version {plan.version})",
        "data": tuple(
            ScoredData(
                name=load_manifest(source.manifest, source.access).name,
                split=role,
                digest=source.digest,
                num_samples=source.num_samples,
                num_classes=source.num_classes,
            )
            for role, source in plan.sources.items()
        ),
        "settings": plan.settings,
    }
