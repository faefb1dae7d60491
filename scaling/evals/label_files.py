"""Files of label sets as planning sees them: where they lie and how a set is found for an image. No PyTorch."""

import importlib.util
from pathlib import Path
from typing import Any

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.plain_json import read_json
from scaling.records.files import open_regular

IMAGENET_REAL = "imagenet-real"
"""The name of timm's list."""


def settle(settings: dict[str, Any], root: str) -> dict[str, Any]:
    """The settings with the file's place and content, and by what a set belongs to an image. Called in planning."""
    labels = str(settings["labels"])
    path = _timm_file() if labels == IMAGENET_REAL else (Path(root) / labels).resolve()
    content = read_label_file(path)
    how = "key" if isinstance(content, dict) else "position"
    return {
        **settings,
        "labels_path": str(path),
        "labels_sha256": file_sha256(path),
        "labels_by": "validation_number" if labels == IMAGENET_REAL else how,
    }


def read_label_file(path: Path) -> Any:
    """The list or object in a JSON file; UserError for anything else."""
    try:
        with open_regular(path) as stream:
            content = read_json(stream.read())
    except OSError as error:
        raise UserError(f"labels: {path} cannot be read ({error.strerror}); name a JSON file of label sets") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"labels: {path} is not JSON ({error})") from error
    if not isinstance(content, list | dict):
        raise UserError(f"labels: {path} holds a {type(content).__name__}; write a list of sets, or an object by key")
    return content


def _timm_file() -> Path:
    """Where timm keeps the list, found without importing timm."""
    found = importlib.util.find_spec("timm")
    place = Path(next(iter(found.submodule_search_locations or [""]))) if found else Path()
    path = place / "data" / "_info" / "imagenet_real_labels.json"
    if not path.is_file():
        raise UserError(f"labels: {IMAGENET_REAL}: this version of timm does not ship it ({path}); name a JSON file")
    return path
