"""The tiny data set with images that cannot be decoded."""

import shutil
import tarfile
from pathlib import Path

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.manifest import Manifest

BROKEN = ["0010000", "0010001", "0030021"]
"""Keys of the samples whose images are overwritten by zeros."""


def write_damaged(tiny_data: Path, folder: Path) -> Manifest:
    """A copy of the training shards in `folder`, damaged and then indexed."""
    shutil.copytree(tiny_data / "train", folder / "train")
    for path in (folder / "train").iterdir():
        with tarfile.open(path) as tar:
            broken = [member for member in tar if member.name.removesuffix(".png") in BROKEN]
        data = bytearray(path.read_bytes())
        for member in broken:
            data[member.offset_data : member.offset_data + member.size] = bytes(member.size)
        path.write_bytes(data)
    return index_shards(expand_urls([str(folder / "train")]), folder / "train.json", name="damaged")
