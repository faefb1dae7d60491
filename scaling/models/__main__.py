"""The families by their papers' names: parameters, FLOPs, shapes, and the source of each number.

Published numbers stand beside computed ones. FLOPs are counted on torch's meta device, so no weight is allocated.
Unknown names and options are refused before torch is imported.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from scaling.errors import UserError, run_command
from scaling.models.registry import check_name, check_options, default_image_size, list_models
from scaling.plain_json import read_json
from scaling.readable import plain_table

if TYPE_CHECKING:
    from scaling.models.cost import ModelCost

EXAMPLE = "example: python -m scaling.models mixer-b/32 vit-b/32 bit-r50x1 --num-classes 18291"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scaling.models", description=__doc__, epilog=EXAMPLE)
    parser.add_argument("names", nargs="*", metavar="NAME", help="models, timm:NAME included; default: all families")
    parser.add_argument("--image-size", type=int, help="side of the input, pixels; default: each model's own")
    parser.add_argument("--num-classes", type=int, default=1000, help="outputs of the classifier; default: 1000")
    parser.add_argument(
        "--options",
        default="{}",
        metavar="JSON",
        help="options of every NAME (scaling/models/options.py), a JSON object",
    )
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    arguments = parser.parse_args(argv)
    names = arguments.names or list_models()
    options = _read_options(arguments.options)
    for name in names:
        check_name(name)
        check_options(name, options)
    if arguments.list:
        print("\n".join(names))
        return 0
    given = arguments.image_size
    sizes = [default_image_size(name) if given is None else given for name in names]

    from scaling.models.cost import count_costs  # torch takes seconds to import, checking names does not

    costs = count_costs(list(zip(names, sizes, strict=True)), num_classes=arguments.num_classes, options=options)
    print(json.dumps([asdict(cost) for cost in costs], indent=1) if arguments.json else _table(costs))
    return 0


def _read_options(text: str) -> Mapping[str, object]:
    try:
        options = read_json(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--options {text!r} is not JSON: {error}") from None
    if not isinstance(options, dict):
        raise UserError(f'--options {text!r} must be a JSON object such as {{"gelu": "exact"}}')
    return options


def _table(costs: Sequence["ModelCost"]) -> str:
    """Sources follow the table as numbered notes, because many models share one."""
    sources = list(dict.fromkeys(cost.source for cost in costs))
    headers = ["model", "image", "params M", "published M", "GMACs fwd", "GFLOPs train", "source", "shape"]
    rows = []
    for cost in costs:
        published = cost.published_params_millions
        rows.append(
            [
                cost.name,
                str(cost.image_size),
                f"{cost.num_params_body / 1e6:.2f}",
                "" if published is None else f"{published:g}",
                f"{cost.flops_forward_per_image / 2e9:.4g}",
                f"{cost.flops_train_per_image / 1e9:.4g}",
                f"[{sources.index(cost.source) + 1}]",
                " ".join(f"{key}={_shape_value(value)}" for key, value in cost.shape.items()),
            ]
        )
    first = costs[0]
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    notes.append(
        f"Parameters without classifier ({first.num_classes} outputs); FLOPs with it, per image, train = forward + "
        f"backward: {first.method}; torch {first.torch_version}, timm {first.timm_version}."
    )
    return "\n".join([plain_table(headers, rows), "", *notes])


def _shape_value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.exit(run_command(main))
