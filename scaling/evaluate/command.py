"""The command line of `python -m scaling.evaluate`: which weights, which evaluations, the table of their numbers."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scaling.data.tools.commands.access import add_cache, add_storage, read_access
from scaling.errors import UserError
from scaling.evals.settings import EVALUATIONS
from scaling.evaluate.architecture import architecture_of, read_architecture
from scaling.evaluate.asked import Wish, asked_evaluations
from scaling.evaluate.runs import Execution, Scored, launch_spec, score_runs, study_runs
from scaling.models.registry import is_timm_name
from scaling.plan.check_data import each_warning_once
from scaling.plan.suite import shipped_suites
from scaling.readable import plain_table
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.spec.plain_yaml import read_yaml

EPILOG = """\
examples:
  python -m scaling.evaluate runs/quickstart --eval fewshot_2021 --set support=a.json --set test=b.json
  python -m scaling.evaluate runs/quickstart --eval laptop --root data
  python -m scaling.evaluate runs/quickstart/mixer-laptop-32px_100pct_s0-1f3a9c2e
  python -m scaling.evaluate Mixer-B_16.npz --model mixer-b/16 --num-images 14e6 --eval fewshot \\
      --set support=a.json --set test=b.json
  python -m scaling.evaluate timm:resnet50 --image-size 224 --num-images 1281167 --eval flowers.yaml

with flowers.yaml:
  root: data
  evals:
    - {kind: finetune, name: flowers, train: train.json, test: test.json, recipe: bit-hyperrule, seeds: [0, 1, 2]}

Each evaluation of a run is recorded in its folder when it is done, as training does it: the same command again computes
what is missing, also after a kill. Those of weights are recorded in --out, with a table for
'python -m analysis --from-csv'. Fine-tuning is done by runs in the study's folder, or in that of the weights, which
'python -m scaling.status' shows.
exit code: 0 done, 1 some evaluations failed, 2 bad input, 130 stopped.
"""

DEFAULT_OUT = Path("scores")
"""Where scores of weights are kept."""

MAX_COLUMNS = 6
"""Metrics shown for each run of a study; --json has all."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    wish = Wish(
        words=tuple(args.eval),
        options=tuple(args.set),
        name=args.name,
        root=args.root,
        access=read_access(args.storage, args.cache, args.cache_gb),
    )
    with each_warning_once():
        return _evaluate(args, wish)


def _evaluate(args: argparse.Namespace, wish: Wish) -> int:
    target = Path(args.target)
    if is_timm_name(args.target) or not target.is_dir():
        return _weights(args, wish)
    if args.model or args.image_size or args.option or args.num_classes:
        raise UserError(f"{target} knows its models; leave out --model, --image-size, --num-classes and --option")
    _refuse_unused(args)
    run_dirs = [target] if RunDir(target).plan.exists() else study_runs(target)
    if args.no_record:
        return _trial(args, wish, run_dirs)
    scored = score_runs([run_dir.resolve() for run_dir in run_dirs], wish, _execution(args))
    if args.json:
        found = [_as_json(one) for one in scored]
        print(json.dumps(found[0] if len(run_dirs) == 1 else found, indent=2))
    else:
        _print_runs(scored, as_list=len(run_dirs) == 1)
    return 1 if any(one.missing for one in scored) else 0


def _refuse_unused(args: argparse.Namespace) -> None:
    """UserError for an option that scoring trained runs does not go by."""
    given = {"--num-images": args.num_images, "--out": args.out}
    if not args.no_record:
        given["--precision"] = args.precision
    for option, value in given.items():
        if value is not None:
            raise UserError(f"{option} {value}: runs are scored in their folders as they were trained; leave it out")
    for option, value in {"--name": args.name, "--root": args.root, "--set": " ".join(args.set)}.items():
        if value and not args.eval:
            raise UserError(f"{option} {value}: it is of an evaluation, and none is named; add --eval, or leave it out")


def _weights(args: argparse.Namespace, wish: Wish) -> int:
    """Score a weights file or `timm:NAME`; PyTorch is imported only after everything was checked."""
    if not wish.words:
        known = ", ".join([*EVALUATIONS, *shipped_suites()])
        raise UserError(f"which evaluation of {args.target}? add --eval, one of: {known}, or a .yaml file")
    out = args.out or DEFAULT_OUT
    architecture = read_architecture(args.target, args.model, args.image_size, _options(args.option), args.num_classes)
    evaluations = asked_evaluations(wish)
    from scaling.evaluate.weights import WeightsExecution, score_weights

    execution = WeightsExecution(
        out=None if args.no_record else out,
        num_images=args.num_images,
        precision=args.precision or "fp32",
        threads=args.threads,
        loader_threads=args.loader_threads or 1,
        launch=launch_spec({}, _execution(args), "--backend and --devices"),
        max_parallel=args.max_parallel,
    )
    metrics = score_weights(args.target, architecture, evaluations, execution)
    if not args.no_record and args.num_images is None:
        print(f"without --num-images these weights have no row in {out / 'runs.csv'}", file=sys.stderr)
    _print_one(args, args.target, architecture.name, metrics)
    missing = [one.name for one in evaluations if not any(name.startswith(f"{one.name}/") for name in metrics)]
    if missing:
        print(f"not done: {', '.join(missing)}; the same command goes on with what is missing", file=sys.stderr)
    return 1 if missing else 0


def _execution(args: argparse.Namespace) -> Execution:
    return Execution(
        backend=args.backend,
        devices=args.devices,
        max_parallel=args.max_parallel,
        threads=args.threads,
        loader_threads=args.loader_threads,
    )


def _trial(args: argparse.Namespace, wish: Wish, run_dirs: Sequence[Path]) -> int:
    """Score one run in this process and record nothing."""
    if len(run_dirs) > 1:
        raise UserError("--no-record is for one run; name its folder")
    plan = RunPlan.load(run_dirs[0])
    weights = RunDir(run_dirs[0]).best_weights
    if not weights.exists():
        raise UserError(f"{run_dirs[0]} has no kept weights yet ({weights}); train it at least to its first validation")
    planned = {one.name: one for one in plan.evals}
    words = wish.words or tuple(planned)
    chosen = [planned[word] for word in words if word in planned and not wish.options]
    rest = tuple(word for word in words if word not in planned or wish.options)
    chosen += asked_evaluations(Wish(words=rest, options=wish.options, root=wish.root, access=wish.access))
    from scaling.evaluate.weights import WeightsExecution, score_weights

    execution = WeightsExecution(
        out=None,
        num_images=None,
        precision=args.precision or plan.recipe.precision,
        threads=args.threads,
        loader_threads=args.loader_threads or 1,
    )
    metrics = score_weights(str(weights), architecture_of(plan.model, plan.input), chosen, execution)
    _print_one(args, str(weights), plan.model.name, metrics)
    return 0


def _print_one(args: argparse.Namespace, weights: str, model: str, metrics: Mapping[str, float]) -> None:
    if args.json:
        print(json.dumps({"weights": weights, "model": model, "metrics": metrics}, indent=2))
    else:
        _print_metrics(metrics)


def _as_json(one: Scored) -> dict[str, object]:
    return {
        "run_id": one.record.plan.run_id,
        "weights": str(RunDir(one.record.run_dir).best_weights),
        "model": one.record.plan.model.name,
        "metrics": one.metrics,
        "missing": list(one.missing),
        "incomplete": one.incomplete,
    }


def _print_runs(scored: Sequence[Scored], *, as_list: bool) -> None:
    """Metrics of one run as a list, of several as a table; then what is missing."""
    if as_list:
        _print_metrics(scored[0].metrics)
    else:
        found = {name for one in scored for name in one.metrics if "_seed" not in name}
        means = [name for name in found if "/mean_" in name or "_mean_" in name]
        shown = sorted(means or found)[:MAX_COLUMNS]
        rows = [[one.record.plan.run_id, *(_cell(name, one.metrics.get(name)) for name in shown)] for one in scored]
        print(plain_table(["run", *shown], rows))
    for told in dict.fromkeys(text for one in scored for text in one.incomplete):
        print(told, file=sys.stderr)


def _print_metrics(metrics: Mapping[str, float]) -> None:
    print(plain_table(["metric", "value"], [[name, _cell(name, value)] for name, value in metrics.items()]))


def _cell(name: str, value: float | None) -> str:
    """Accuracies in percent, everything else as a number."""
    if value is None:
        return "-"
    is_share = any(word in name for word in ("top1", "top5", "precision_at_1", "/real"))
    return f"{100 * value:.2f} %" if is_share else f"{value:,.6g}"


def _options(words: Sequence[str]) -> dict[str, object]:
    """`KEY=VALUE` with the value read as YAML."""
    options = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"--option {word!r}: write it as KEY=VALUE, for example --option dropout=0.1")
        options[key], _ = read_yaml(text)
    return options


def _count(text: str) -> int:
    """A number of images; `14e6` is one."""
    number = float(text)
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"{text} is no number of images")
    return int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.evaluate",
        description="Score or fine-tune the kept weights of a run or a whole study, or any weights of a known model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target",
        metavar="RUN_DIR|STUDY_DIR|WEIGHTS",
        help="a trained run, a study, a .safetensors or .npz file, or timm:NAME",
    )
    parser.add_argument(
        "--eval",
        action="append",
        default=[],
        metavar="NAME|FILE",
        help="an evaluation that the runs plan, a .yaml file with 'evals:' or a suite, or one of: "
        f"{', '.join([*EVALUATIONS, *shipped_suites()])} (default: all that are planned)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting or manifest of the evaluation"
    )
    parser.add_argument("--name", metavar="NAME", help="what the evaluation is called in the records")
    parser.add_argument("--root", default="", metavar="DIR", help="folder or url that manifests are relative to")
    parser.add_argument("--no-record", action="store_true", help="print the numbers and write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_storage(parser)
    add_cache(parser)
    how = parser.add_argument_group("execution")
    how.add_argument("--devices", type=int, metavar="N", help="processes that share one evaluation (default: 1)")
    how.add_argument("--max-parallel", type=int, metavar="N", help="runs at a time (default: what the machine holds)")
    how.add_argument(
        "--backend", metavar="NAME", help="where (default: where the runs were trained; for weights, here)"
    )
    how.add_argument("--threads", type=int, metavar="N", help="CPU threads of a process (default: PyTorch's choice)")
    how.add_argument("--loader-threads", type=int, metavar="N", help="threads that decode (default: the study's, 1)")
    of_weights = parser.add_argument_group("WEIGHTS alone")
    of_weights.add_argument("--model", metavar="NAME", help="what they are of, where the file does not say it itself")
    of_weights.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the input (default: the model's)")
    of_weights.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    of_weights.add_argument("--num-classes", type=int, metavar="N", help="load their own classifier, of N classes")
    of_weights.add_argument("--precision", choices=["fp32", "bf16"], help="arithmetic (default: fp32)")
    of_weights.add_argument("--num-images", type=_count, metavar="N", help="images that they were trained on")
    of_weights.add_argument("--out", type=Path, metavar="SCORES", help=f"default: {DEFAULT_OUT}")
    return parser
