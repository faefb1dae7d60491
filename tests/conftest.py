"""A tiny real data set, in real WebDataset tars, and studies on it that train in a second or two."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from scaling.data.index import expand_urls, index_shards
from scaling.launch.planner import Planner
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.spec.study import load_study

NUM_CLASSES = 4
SHARD_SAMPLES = 40

TINY_SWEEP = """\
study: tiny
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 30, batch: 16}}
defaults: {{learning_rate: 2.0e-3, warmup: 10%, log_every: 5, validate_every: 10, checkpoint_every: 5}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
evals:
  - {{kind: fewshot, support: val.json, test: val.json, shots: [2]}}
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


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.json (200 pictures in 5 shards) and val.json (80 in 2)."""
    folder = tmp_path_factory.mktemp("tiny-data")
    for split, num_shards, seed in (("train", 5, 0), ("val", 2, 1)):
        write_shards(folder / split, num_shards, seed)
        index_shards(expand_urls([str(folder / split)]), folder / f"{split}.json", name=split)
    return folder


@pytest.fixture(scope="session")
def model_facts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counted FLOPs and parameters, shared by all tiny studies of a test session."""
    return tmp_path_factory.mktemp("facts") / "models.json"


PlanTiny = Callable[..., list[PlannedRun]]


@pytest.fixture
def plan_tiny(tiny_data: Path, model_facts: Path, tmp_path: Path) -> PlanTiny:
    """`plan_tiny("protocol.steps=9", name="a")` plans the tiny sweep with options into tmp_path/name."""

    def plan(*options: str, name: str = "study") -> list[PlannedRun]:
        sweep = tmp_path / "tiny.yaml"
        sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
        study, document = load_study(sweep, options)
        plans = Planner(study, document, threads_per_process=1).plan(model_facts)
        write_study(tmp_path / name, document, plans)
        return find_standings(tmp_path / name, plans)

    return plan
