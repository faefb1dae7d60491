"""The tiny data set, and beside it others that cannot be used with it."""

import json
import shutil
from pathlib import Path

from scaling.data.format.index import expand_urls, index_shards
from tests.support.tiny_study import write_shards


def write_unusable_sets(folder: Path, tiny_data: Path) -> None:
    """Into `folder`: `tiny_data`; `shared`, which has a shard of the training set; `copies`, with its first images in a
    shard of their own; `multi`, multi-label; `without`, the training set with no image of class 2 by its counts."""
    shutil.copytree(tiny_data, folder, dirs_exist_ok=True)
    (folder / "shared").mkdir()
    shutil.copy(folder / "train" / "shard-000.tar", folder / "shared" / "a.tar")
    shutil.copy(folder / "val" / "shard-000.tar", folder / "shared" / "b.tar")
    write_shards(folder / "copies", 1, 0, samples=10)
    for name in ("shared", "copies"):
        index_shards(expand_urls([str(folder / name)]), folder / f"{name}.json", name=name)
    index_shards(expand_urls([str(folder / "val")]), folder / "multi.json", name="multi", label_type="multi")
    body = json.loads((folder / "train.json").read_text())
    body["class_counts"][2] = 0
    (folder / "without.json").write_text(json.dumps(body))
