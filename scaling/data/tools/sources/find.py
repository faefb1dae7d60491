"""From the name on the command line to the source that it stands for."""

from pathlib import Path

from scaling.data.format.load_manifest import load_manifest
from scaling.data.select.subset import select_subset
from scaling.data.tools.sources.folders import FolderSource
from scaling.data.tools.sources.named import HUGGING_FACE, TORCHVISION, HuggingFaceSource, TorchvisionSource
from scaling.data.tools.sources.shards import ShardSource
from scaling.data.tools.sources.source import NO_OPTIONS, Source, SourceOptions
from scaling.data.tools.sources.table import TableSource
from scaling.data.tools.tables import read_csv_rows, read_parquet_rows
from scaling.errors import UserError


def find_source(name: str | Path, options: SourceOptions = NO_OPTIONS) -> Source:
    """A folder of class folders, a `.csv` or `.parquet` table, a manifest (`.json`), or a name with the prefix of a
    library (see `named`)."""
    is_named = str(name).startswith((HUGGING_FACE, TORCHVISION))
    path = Path(name)
    if options.ignore and (is_named or path.suffix == ".json"):
        raise UserError(f"--ignore is for folders and tables, whose samples have paths; {name} has none")
    if str(name).startswith(HUGGING_FACE):
        return HuggingFaceSource(str(name).removeprefix(HUGGING_FACE), options)
    if str(name).startswith(TORCHVISION):
        return TorchvisionSource(str(name).removeprefix(TORCHVISION), options)
    if path.is_dir():
        return FolderSource(path, options)
    if not path.exists():
        raise UserError(f"{path}: no such source; name a folder of class folders, a .csv or .parquet, or a manifest")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return TableSource(path, read_csv_rows, options)
    if suffix == ".parquet":
        return TableSource(path, read_parquet_rows, options)
    if suffix == ".json":
        manifest = load_manifest(path)
        return ShardSource(manifest, select_subset(manifest, 1.0, seed=0), options)
    raise UserError(f"{path}: a source is a folder of class folders, a .csv or .parquet table, or a manifest (.json)")
