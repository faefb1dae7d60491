"""What a rank of a very large study spends before its first batch: in a fresh process, without reading images."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset

NUM_SHARDS, SHARD_SAMPLES, NUM_CLASSES = 300_000, 1_000, 18_291
NUM_RANKS, NUM_WORKERS, BATCH = 512, 8, 4096

PLAN = """
import json, sys, time
started = time.perf_counter()
from pathlib import Path
import numpy as np
from scaling.data.format.load_manifest import load_manifest
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset
imported = time.perf_counter()
manifest = load_manifest(Path(sys.argv[1]))
loaded = time.perf_counter()
subset = select_subset(manifest, 1.0, 0)
order = SampleOrder(subset, 0)
rank, world, batch = (int(word) for word in sys.argv[2:])
# In the middle of the third epoch, as after a restart.
position = (5 * manifest.num_samples // 2) // batch * batch
order.locate(np.arange(position, position + batch)[rank::world])
planned = time.perf_counter()
print(json.dumps({
    "import seconds": imported - started,
    "manifest seconds": loaded - imported,
    "subset and order seconds": planned - loaded,
    "peak memory MB": int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024,
}))
"""


def measure_planning() -> dict[str, Any]:
    """Seconds and memory of the last of 512 ranks, from a cold start to the places of its first batch's samples.

    The order is found once per rank and shared by its workers, so their number does not matter.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.json"
        manifest = _manifest(Path(folder)).save(path)
        command = [sys.executable, "-c", PLAN, str(path), str(NUM_RANKS - 1), str(NUM_RANKS), str(BATCH)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        megabytes = path.stat().st_size / 1e6
    figures: dict[str, Any] = json.loads(answer.stdout)
    size = {"shards": NUM_SHARDS, "samples": NUM_SHARDS * SHARD_SAMPLES, "ranks": NUM_RANKS, "workers": NUM_WORKERS}
    distinct, effective = shards_in_a_batch(manifest, BATCH)
    mixing = {
        "batch": BATCH,
        "shards in a batch": distinct,
        "effective shards": effective,
        "shards if uniform": shards_if_uniform(manifest, BATCH),
    }
    return {**size, "manifest MB": megabytes, **figures, **mixing}


def _manifest(folder: Path) -> Manifest:
    return build_manifest(
        name="planned",
        label_type="multi",
        classes=[f"class {number}" for number in range(NUM_CLASSES)],
        folder=folder,
        urls=[f"train/shard-{number:06d}.tar" for number in range(NUM_SHARDS)],
        num_samples=[SHARD_SAMPLES] * NUM_SHARDS,
        num_bytes=[100_000_000] * NUM_SHARDS,
        sha256=[f"{number:064x}" for number in range(NUM_SHARDS)],
        origin={},
    )


NUM_BATCHES = 20
"""Spread evenly over the first epoch."""


def shards_in_a_batch(manifest: Manifest, batch: int) -> tuple[float, float]:
    """Mean number of different shards in a batch, and the effective one: 1 / sum of squared shares, which counts a
    shard for less the fewer samples it gives."""
    order = SampleOrder(select_subset(manifest, 1.0, 0), 0)
    distinct, effective = [], []
    for start in np.linspace(0, manifest.num_samples - batch, NUM_BATCHES).astype(np.int64):
        _, counts = np.unique(order.locate(np.arange(start, start + batch))[0], return_counts=True)
        distinct.append(len(counts))
        effective.append(batch**2 / (counts**2).sum())
    return float(np.mean(distinct)), float(np.mean(effective))


def shards_if_uniform(manifest: Manifest, batch: int) -> float:
    """Expected number of different shards when every sample of a batch is drawn from all of them."""
    shares = manifest.shard_samples / manifest.num_samples
    return float((1 - (1 - shares) ** batch).sum())
