"""`python -m analysis.weights RUN_DIR|WEIGHTS`: what the first layers of a trained model look like.

LawDraws the units of the first token-mixing MLPs as maps over the patch grid, each beside its nearest inverse and
sorted by frequency (Mixer, arXiv 2105.01601, Figure 5), and the filters of the stem.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import drawing_style
from analysis.figures.first_layers import layer_summary, stem_figure, token_mixing_figure
from analysis.first_layer_maps.first_layers import read_first_layers
from analysis.report.tables import plain_text
from scaling.errors import UserError, run_command

_EXAMPLES = """\
examples:
  python -m analysis.weights runs/quickstart/mixer-laptop-32px_100pct_s0-1f3a9c2e --out first-layers
  python -m analysis.weights Mixer-B_16.npz --out first-layers --layers 3
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.weights",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="RUN_DIR|WEIGHTS",
        type=Path,
        help="a trained run, its .safetensors file, or a published .npz of Mixer, ViT or BiT",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("weights"), help="default: ./weights")
    parser.add_argument("--layers", metavar="N", type=int, default=3, help="token-mixing layers to draw (default: 3)")
    options = parser.parse_args(argv)
    if options.layers < 1:
        raise UserError(f"--layers {options.layers}: draw at least one layer")
    layers = read_first_layers(options.source, options.layers)
    with drawing_style():
        drawings: list[Drawing] = [stem_figure(layers)]
        if layers.token_units:
            drawings.insert(0, token_mixing_figure(layers))
            print(plain_text(layer_summary(layers)))
        else:
            print(f"{layers.title} has no token mixing; only its stem is drawn")
        options.out.mkdir(parents=True, exist_ok=True)
        for drawing in drawings:
            path = drawing.save(options.out)[0]
            print(f"figure   {path} (.svg, .csv)  {drawing.title}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
