"""Make the JFT-like data set on disk: shards and manifests of four splits.

    OUT/recipe.json
    OUT/train/jft-like-train-00000-of-00008.tar …   OUT/train/manifest.json
    OUT/val/…   OUT/fewshot/support/…   OUT/fewshot/test/…

The bytes depend on the config alone, not on the number of processes. Making may be stopped at any moment and
called again: finished shards are kept, and the manifests come last, so a folder with its four manifests is
complete. A folder made by another recipe, or holding anything else, is refused, never mixed or overwritten.
"""

import fcntl
import json
import logging
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scaling.data.format.manifest import build_manifest
from scaling.errors import UserError
from scaling.jft_like.config import JftLikeConfig
from scaling.jft_like.shards import PARTIAL_SUFFIX, ShardFile, read_facts, write_shard
from scaling.jft_like.splits import Split, make_samples, splits_of, taxonomy_of
from scaling.records.files import write_json_atomic

logger = logging.getLogger(__name__)

Progress = Callable[[int, int, int], None]
"""Called with shards done, shards in all, and samples made by this call."""


@dataclass(frozen=True, slots=True)
class Job:
    """One shard to be made: samples `start` to `stop` of a split."""

    split: Split
    url: str
    start: int
    stop: int


def make_jft_like(
    out: Path, config: JftLikeConfig | None = None, *, processes: int = 1, progress: Progress | None = None
) -> bool:
    """Make the data set in `out`; True when something was made, False when it was complete already.

    Raises `UserError` when `out` holds another data set or foreign files.
    """
    config = config or JftLikeConfig()
    if processes < 1:
        raise UserError(f"processes = {processes} must be at least 1; leave it out to use every core")
    _claim(out, config)
    splits = splits_of(config)
    with _alone_in(out):
        if all((out / split.folder / "manifest.json").exists() for split in splits):
            logger.info("%s already holds this data set; nothing to do", out)
            return False
        jobs = [job for split in splits for job in _jobs(split, config.shard_samples)]
        for split in splits:
            (out / split.folder).mkdir(parents=True, exist_ok=True)
            for leftover in (out / split.folder).glob(f"*{PARTIAL_SUFFIX}"):
                leftover.unlink()
        facts = _make_shards(out, config, jobs, processes, progress)
        for split in splits:
            _write_manifest(out, config, split, [job for job in jobs if job.split == split], facts)
    return True


def _claim(out: Path, config: JftLikeConfig) -> None:
    """Make `out` ours by writing the recipe, or find that it is ours already."""
    recipe_path = out / "recipe.json"
    if not recipe_path.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not an empty folder and holds no JFT-like data set; name another folder")
        out.mkdir(parents=True, exist_ok=True)
        write_json_atomic(recipe_path, config.recipe())
        return
    try:
        recipe = json.loads(recipe_path.read_text(encoding="utf-8"))
        differences = config.differences(recipe)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{recipe_path} cannot be read ({error}); remove {out} and make the data set again") from error
    if differences:
        raise UserError(
            f"{out} holds a JFT-like data set of another recipe ({'; '.join(differences)}); name another folder, or "
            "remove that one"
        )


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Let one maker at a time work in `out`; the lock ends with the process, however it ends."""
    with (out / "recipe.json").open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _jobs(split: Split, shard_samples: int) -> list[Job]:
    num_shards = -(-split.num_samples // shard_samples)
    return [
        Job(
            split=split,
            url=f"jft-like-{split.name}-{shard:05d}-of-{num_shards:05d}.tar",
            start=shard * shard_samples,
            stop=min((shard + 1) * shard_samples, split.num_samples),
        )
        for shard in range(num_shards)
    ]


def _make_shards(
    out: Path, config: JftLikeConfig, jobs: list[Job], processes: int, progress: Progress | None
) -> dict[str, ShardFile]:
    """Facts of every shard by url; only missing shards are made."""
    facts = {job.url: read_facts(path) for job in jobs if (path := out / job.split.folder / job.url).exists()}
    missing = [job for job in jobs if job.url not in facts]
    num_samples = 0
    for job, made in _run(out, config, missing, min(processes, len(missing))):
        facts[job.url] = made
        num_samples += job.stop - job.start
        if progress is not None:
            progress(len(facts), len(jobs), num_samples)
    return facts


def _run(out: Path, config: JftLikeConfig, jobs: list[Job], processes: int) -> Iterable[tuple[Job, ShardFile]]:
    """Make the shards, in this process or in several, and yield each as it is done."""
    if processes <= 1:
        for job in jobs:
            yield job, make_shard(out, config, job)
        return
    # Spawned, not forked: the caller may have threads, whose locks a fork would copy in an unknown state.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(make_shard, out, config, job): job for job in jobs}
        for future in as_completed(running):
            yield running[future], future.result()


def make_shard(out: Path, config: JftLikeConfig, job: Job) -> ShardFile:
    """Make one shard."""
    return write_shard(out / job.split.folder / job.url, make_samples(config, job.split, job.start, job.stop))


def _write_manifest(
    out: Path, config: JftLikeConfig, split: Split, jobs: list[Job], facts: dict[str, ShardFile]
) -> None:
    taxonomy, folder = taxonomy_of(config), out / split.folder
    classes = taxonomy.names if split.label_type == "multi" else taxonomy.unseen_names
    counts: Counter[int] = Counter()
    for job in jobs:
        counts.update(facts[job.url].class_counts)
    build_manifest(
        name=f"jft-like-{split.name}",
        label_type=split.label_type,
        classes=classes,
        folder=folder,
        urls=[job.url for job in jobs],
        num_samples=[job.stop - job.start for job in jobs],
        num_bytes=[facts[job.url].num_bytes for job in jobs],
        sha256=[facts[job.url].sha256 for job in jobs],
        origin={**config.recipe(), "split": split.name},
        class_counts=[counts[number] for number in range(len(classes))],
    ).save(folder / "manifest.json")
