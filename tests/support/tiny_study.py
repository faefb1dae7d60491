"""A tiny real data set, in real WebDataset tars, and the sweep of a study on it that trains in a second or two."""

import io
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

NUM_CLASSES = 4
SHARD_SAMPLES = 40

TINY_SWEEP = """\
study: tiny
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 30, batch: 16}}
defaults: {{learning_rate: 2.0e-3, warmup: 10%, log_every: 5, validate_every: 10, checkpoint_every: 5}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
evals:
  - {{kind: fewshot, support: train.json, test: val.json, shots: [2]}}
"""


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_shards(folder: Path, num_shards: int, seed: int, samples: int = SHARD_SAMPLES) -> None:
    """Pictures of 24 px whose mean colour tells their class, written by webdataset itself."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    palette = np.array([[220, 60, 60], [60, 220, 60], [60, 60, 220], [200, 200, 60]])
    for shard in range(num_shards):
        with webdataset.TarWriter(str(folder / f"shard-{shard:03d}.tar")) as writer:
            for number in range(samples):
                label = int(generator.integers(NUM_CLASSES))
                pixels = np.clip(palette[label] + generator.normal(0, 60, (24, 24, 3)), 0, 255).astype(np.uint8)
                writer.write({"__key__": f"{shard:03d}{number:04d}", "png": encode(pixels), "cls": str(label)})
