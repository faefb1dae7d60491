"""Options that benchmarks share: what is computed and on which device, and where the figures go."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How models are computed."""
    parser.add_argument("--image-size", type=int, help="side of the input, pixels (default: the model's own)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: fp32")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU arithmetic (default: 1)")


def model_settings(args: argparse.Namespace) -> list[str]:
    """What `add_model_options` asks of a run, as `key=value` of a sweep."""
    image_size = [f"defaults.image_size={args.image_size}"] if args.image_size else []
    return [f"defaults.precision={args.precision}", *image_size]


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")


def write_json(figures: Mapping[str, Any], path: Path | None) -> None:
    """Write the figures to the file of `--json`, if it was given."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")
