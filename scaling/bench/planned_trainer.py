"""The trainer as a study runs it, in this process: planned from a sweep, with its loop, loader, log and records."""

import io
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from webdataset import TarWriter

from scaling.data.format.index import expand_urls, index_shards
from scaling.plan.planner import Planner
from scaling.records.run_plan import RunPlan
from scaling.spec.study import load_study
from scaling.train.checkpoints.checkpoint import Progress
from scaling.train.checkpoints.store import CheckpointStore
from scaling.train.loop import Loop
from scaling.train.processes.preemption import PreemptionFlag
from scaling.train.processes.process_group import Processes
from scaling.train.reporting.recorder import Recorder
from scaling.train.scoring import build_planned
from scaling.train.step.engine import Engine, build_engine
from scaling.train.step.rules import plan_batching

NUM_PICTURES, SHARD_SAMPLES, NUM_CLASSES = 512, 64, 1000

SWEEP = """\
study: bench
data: {{root: {root}, train: {manifest}, val: {manifest}}}
protocol: {{kind: constant_steps, steps: 1_000_000_000, batch: {batch}}}
grid: {{model: {models}}}
"""


def make_images(folder: Path, side: int) -> Path:
    """Smooth random JPEGs of `side` pixels in shards; returns their manifest."""
    generator = np.random.default_rng(0)
    for first in range(0, NUM_PICTURES, SHARD_SAMPLES):
        with TarWriter(str(folder / f"{first:04d}.tar")) as writer:
            for number in range(first, first + SHARD_SAMPLES):
                coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                stream = io.BytesIO()
                coarse.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
                label = int(generator.integers(NUM_CLASSES)) if number else NUM_CLASSES - 1
                writer.write({"__key__": f"{number:06d}", "jpg": stream.getvalue(), "cls": label})
    index_shards(expand_urls([str(folder)]), folder / "images.json", name="images")
    return folder / "images.json"


def plan_trainers(
    folder: Path,
    manifest: Path,
    models: Sequence[str],
    batch: int,
    *,
    log_steps: int,
    settings: Sequence[str],
) -> list[RunPlan]:
    """A plan for each model of a run that never ends, with a row in its log every `log_steps`; `settings` are
    `key=value` as in `scaling.launch --set`."""
    sweep = folder / "bench.yaml"
    root, name = json.dumps(str(manifest.parent.resolve())), json.dumps(manifest.name)
    sweep.write_text(SWEEP.format(root=root, manifest=name, batch=batch, models=json.dumps(list(models))))
    # Nothing is scored here, so the training set may serve as the held-out one.
    logging.getLogger("scaling.plan.check_data").setLevel(logging.ERROR)
    study, document = load_study(sweep, [f"defaults.log_every={log_steps}steps", *settings])
    return Planner(study, document).plan()


def make_engine(plan: RunPlan, processes: Processes) -> Engine:
    """Its engine with weights as they are before step 1."""
    torch.manual_seed(plan.seed)
    batching = plan_batching(plan.schedule.batch, processes.world, plan.engine.micro_batch)
    engine = build_engine(build_planned(plan.model), plan, batching, processes.device, processes.rank)
    logging.getLogger("scaling.train").setLevel(logging.WARNING)
    return engine


@contextmanager
def open_store(run_dir: Path, plan: RunPlan, processes: Processes) -> Iterator[tuple[CheckpointStore, Recorder]]:
    """Its checkpoints and records, in a new folder."""
    run_dir.mkdir()
    device, is_first = processes.device, processes.is_first
    with (
        closing(Recorder(run_dir, plan, device=device, world=processes.world, is_first=is_first)) as recorder,
        closing(CheckpointStore(run_dir, plan, processes, recorder)) as store,
    ):
        yield store, recorder


@contextmanager
def open_trainer(run_dir: Path, plan: RunPlan, processes: Processes) -> Iterator[Loop]:
    """Its loop at step 0, with everything that a run has around it."""
    engine = make_engine(plan, processes)
    with open_store(run_dir, plan, processes) as (store, recorder):
        yield Loop(plan, engine, store, Progress(), PreemptionFlag(watch_parent=False), processes, recorder)
