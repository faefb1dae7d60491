"""`python -m scaling.data make`: write the built-in JFT-like data set."""

import argparse
import os
from dataclasses import fields
from pathlib import Path

from scaling.data.format.load_manifest import load_manifest
from scaling.data.tools.commands.index import summary
from scaling.jft_like.config import JftLikeConfig
from scaling.jft_like.make import make_jft_like
from scaling.jft_like.splits import splits_of
from scaling.readable import ProgressLine

DESCRIPTION = """\
Write procedural images with JFT-300M's kind of labels as WebDataset shards, ready to train on:
  OUT/train, OUT/val                    multi-label, long-tailed, noisy; classes in a hierarchy
  OUT/fewshot/support, OUT/fewshot/test clean and balanced; classes that upstream images never show
Each folder has a manifest.json. A class is a combination of shape, texture, palette and layout, such as
radial.star.striped.red-cyan.pair; its hypernyms are the beginnings of its name. Unseen classes combine the
same values in new ways. The same knobs give the same bytes, with any number of processes. Give the same command
again to continue after it was stopped.
"""

EPILOG = """\
example:
  python -m scaling.data make data/jft-like --num-train 20000 --image-size 64
"""

HELP = {
    "image_size": "side of the images in pixels; rendered, never scaled",
    "num_train": "training images (JFT-300M: 302 million)",
    "num_val": "held-out upstream images, labelled as noisily as the training images",
    "num_leaf_classes": "upstream classes below their hypernyms",
    "num_unseen_classes": "classes of the few-shot sets",
    "support_per_class": "images of each unseen class to draw shots from",
    "num_test": "few-shot test images",
    "labels_per_image": "mean upstream labels of an image (JFT-300M: 1.26)",
    "noise": "share of upstream labels that are wrong (JFT-300M: about 0.2)",
    "zipf_exponent": "long tail: the r-th class has a share proportional to r**-exponent; 0 is balanced",
    "clutter": "probability of each of four unlabelled distractors",
    "variation": "width of pose, colour, light and background variation, 0 to 1",
    "seed": "of everything",
    "shard_samples": "samples of a shard",
    "image_format": "jpg (quality 95, full chroma) or png (lossless)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the data set: new, empty or unfinished")
    for field in fields(JftLikeConfig):
        option = f"--{field.name.replace('_', '-')}"
        help_text = f"{HELP[field.name]} (default: {field.default})"
        if field.name == "image_format":
            parser.add_argument(option, choices=("jpg", "png"), default=field.default, help=help_text)
        else:
            kind = type(field.default)
            parser.add_argument(option, type=kind, default=field.default, metavar="N", help=help_text)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: the cores")


def run(args: argparse.Namespace) -> int:
    config = JftLikeConfig(**{field.name: getattr(args, field.name) for field in fields(JftLikeConfig)})
    made = make_jft_like(args.out, config, processes=args.processes, progress=ProgressLine("shards"))
    if not made:
        print(f"{args.out} already holds this data set; nothing was made")
    for split in splits_of(config):
        path = args.out / split.folder / "manifest.json"
        print(summary(load_manifest(path), path))
    return 0
