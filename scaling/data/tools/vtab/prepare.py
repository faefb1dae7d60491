"""A VTAB-1k task as shards: 800 + 200 training images and the whole test split, with counts checked against the suite.

VTAB takes the first 800 images of the training share and the first 200 of the validation share in the order of
TensorFlow Datasets, which no other library keeps. Here they are drawn by a seed from what the library gives, or they
are those of lists. So numbers are comparable with published ones as those of another draw are, and no more.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.select.random_streams import RandomStream, generator
from scaling.data.tools.build import BuildSettings, build_or_find
from scaling.data.tools.sources.source import NO_OPTIONS, Source, SourceOptions
from scaling.data.tools.vtab.sources import task_parts
from scaling.data.tools.vtab.tasks import TEST, TRAIN, TRAIN_VAL, VAL, VtabTask
from scaling.errors import UserError

Positions = NDArray[np.int64]


class Chosen:
    """Some samples of a source, in the order given."""

    def __init__(self, source: Source, positions: Positions) -> None:
        self._source = source
        references = list(source.references())
        self._references = [references[position] for position in positions]
        self.classes, self.label_type = source.classes, source.label_type
        self.class_counts: NDArray[np.int64] | None = None
        self.num_unlabelled = self.num_repeated = 0
        self.left_out = source.left_out

    def references(self) -> Iterator[Any]:
        return iter(self._references)

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        return self._source.read(reference)


def prepare_task(
    task: VtabTask,
    out: Path,
    where: str,
    options: SourceOptions = NO_OPTIONS,
    *,
    seed: int,
    shard_samples: int = 1000,
    max_side: int | None = None,
    threads: int = 1,
    progress: Callable[[int, int, int], None] = lambda done, total, samples: None,
) -> dict[str, Manifest]:
    """Write `out/<split>/shard-*.tar` and `out/<split>.json` of the four splits; UserError where a count is not the
    suite's."""
    parts = task_parts(task, where, options)
    chosen = draw(task, parts, seed)
    for split, (part, positions) in chosen.items():
        _check(task, split, len(positions), len(parts[part].classes))
    names = {part: tuple(source.classes) for part, source in parts.items()}
    if len(set(names.values())) > 1:
        raise UserError(f"vtab:{task.name}: {' and '.join(names)} do not name the same classes; it cannot be prepared")
    origin = {"made_by": "scaling.data build", "source": f"vtab:{task.name}", "from": where, "draw_seed": seed}
    built = {}
    for split, (part, positions) in chosen.items():
        manifest = build_or_find(
            Chosen(parts[part], positions),
            out / split,
            BuildSettings(seed, shard_samples, max_side),
            name=f"{task.name}-{split}",
            origin=origin,
            threads=threads,
            skip_bad=0,
            decode=True,
            progress=progress,
        ).manifest
        built[split] = _joined(f"{task.name}-{split}", out, {split: manifest}, origin)
    built[TRAIN_VAL] = _joined(
        f"{task.name}-{TRAIN_VAL}", out, {split: built[split] for split in (TRAIN, VAL)}, origin, is_joined=True
    )
    for split, manifest in built.items():
        _check(task, split, manifest.num_samples, len(manifest.classes))
        manifest.save(out / f"{split}.json")
    return built


def draw(task: VtabTask, parts: dict[str, Source], seed: int) -> dict[str, tuple[str, Positions]]:
    """Which samples of which part make each split.

    A part of its own is the validation or test split's; where there is none, both come out of `train`, in one order
    that the seed draws: training images first, then validation, and test images from the other end.
    """
    train, val, test = task.counts[TRAIN], task.counts[VAL], task.counts[TEST]
    order = _order(parts["train"], seed, 0)
    chosen: dict[str, tuple[str, Positions]] = {}
    if "test" in parts:
        chosen[TEST] = ("test", np.arange(_size(parts["test"])))
    elif task.train_per_class:
        labels = np.array([label for _, label in parts["train"].references()])
        kept = np.concatenate([order[labels[order] == number][: task.train_per_class] for number in np.unique(labels)])
        chosen[TEST] = ("train", np.setdiff1d(order, kept))
        order = order[np.isin(order, kept)]
    else:
        if task.total and len(order) != task.total:
            raise UserError(
                f"vtab:{task.name}: there are {len(order):,} images, and VTAB-1k draws from {task.total:,}; this is "
                "another version of the data: name the right one with --from"
            )
        chosen[TEST] = ("train", np.sort(order[max(len(order) - test, train + val) :]))
        order = order[: len(order) - test]
    chosen[TRAIN] = ("train", order[:train])
    if "val" in parts:
        chosen[VAL] = ("val", _order(parts["val"], seed, 1)[:val])
    else:
        chosen[VAL] = ("train", order[train : train + val])
    return chosen


def _order(source: Source, seed: int, number: int) -> Positions:
    """All samples of a part, those of each `number` in an order of their own."""
    return generator(seed, RandomStream.VTAB, number).permutation(_size(source))


def _size(source: Source) -> int:
    return sum(1 for _ in source.references())


def _check(task: VtabTask, split: str, num_samples: int, num_classes: int) -> None:
    if num_samples != task.counts[split]:
        raise UserError(
            f"vtab:{task.name}: {split} has {num_samples:,} images, and VTAB-1k has {task.counts[split]:,}; this is "
            "another version or another split of the data: name the right one with --from"
        )
    if num_classes != task.num_classes:
        raise UserError(
            f"vtab:{task.name}: {split} has {num_classes} classes, and VTAB-1k has {task.num_classes}; this is another "
            "version of the data: name the right one with --from"
        )


def _joined(
    name: str, out: Path, manifests: dict[str, Manifest], origin: dict[str, Any], *, is_joined: bool = False
) -> Manifest:
    """One manifest in `out` over the shards of several splits, none of them written again."""
    ones: Sequence[Manifest] = list(manifests.values())
    counts = [one.class_counts for one in ones if one.class_counts is not None]
    return build_manifest(
        name=name,
        label_type=ones[0].label_type,
        classes=ones[0].classes,
        folder=out.resolve(),
        urls=[url if is_joined else f"{split}/{url}" for split, one in manifests.items() for url in one.urls],
        num_samples=[int(count) for one in ones for count in one.shard_samples],
        num_bytes=[int(count) for one in ones for count in one.shard_bytes],
        sha256=[digest for one in ones for digest in one.shard_sha256],
        origin=origin,
        class_counts=np.sum(counts, axis=0).tolist() if len(counts) == len(ones) else None,
    )
