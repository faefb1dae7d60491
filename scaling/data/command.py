"""`python -m scaling.data`: make, build, index, check and look at the data of a study.

Each sub-command is a module with `add_arguments(parser)` and `run(args)`; only the one that is called is loaded.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

EPILOG = """\
examples:
  python -m scaling.data make data/jft-like
  python -m scaling.data build photos/ data/photos
  python -m scaling.data index 'photos/train-{00000..00009}.tar' --out photos/train.json --classes classes.txt
  python -m scaling.data subset data/jft-like/train/manifest.json --fraction 0.1 --seed 0
  python -m scaling.data show data/jft-like/train/manifest.json --out sheet.png
"""

COMMANDS = {
    "make": ("scaling.jft_like.command", "write the built-in JFT-like data set as shards"),
    "build": (
        "scaling.data.tools.commands.build",
        "write shards in random order from folders, a table or other shards",
    ),
    "index": ("scaling.data.tools.commands.index", "write a manifest for existing WebDataset shards"),
    "validate": ("scaling.data.tools.commands.validate", "check shards against their manifest, byte by byte"),
    "subset": ("scaling.data.tools.commands.subset", "what a subset holds: count, digest, classes left, long tail"),
    "dedup": (
        "scaling.data.tools.commands.dedup",
        "find evaluation images, or near-duplicates of them, in the training set",
    ),
    "show": ("scaling.data.tools.commands.show", "a sheet of samples with labels, a plot of class frequencies"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m scaling.data",
        description="Make, build, index, check and look at the data of a study.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (module_name, help_text) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if arguments[:1] == [name]:
            module = importlib.import_module(module_name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    code: int = args.run(args)
    return code
