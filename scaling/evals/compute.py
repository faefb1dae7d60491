"""The numbers of a request: build the model, load the weights, run the evaluations."""

import torch

from scaling.evals.request import Request
from scaling.evals.runner import EvaluationContext, run_evaluation
from scaling.models.arithmetic import settle_tf32
from scaling.models.build import build_model
from scaling.models.weights.files import load_weights


def compute(request: Request, threads: int | None) -> dict[str, float]:
    """Metrics of all evaluations, named `<evaluation>/<metric>`."""
    if threads:
        torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settle_tf32(request.precision)
    architecture = request.model
    model = build_model(
        architecture.name,
        num_classes=architecture.num_classes,
        image_size=architecture.image_size,
        options=architecture.options,
    )
    load_weights(model, request.weights, head="load" if architecture.has_head else "keep")
    model.to(device)
    where = EvaluationContext(
        device, request.precision, architecture.image_size, request.loader_threads, architecture.input
    )
    metrics: dict[str, float] = {}
    for evaluation in request.evaluations:
        metrics |= run_evaluation(model, evaluation, where)
    return metrics
