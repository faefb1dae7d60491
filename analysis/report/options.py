"""What a reader may ask of a report beyond its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from analysis.figures.canvas.style import COLUMN_INCHES, PAGE_INCHES
from scaling.errors import UserError, printable


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """How a report is drawn; what it counts does not depend on it, but for `overlay`."""

    published: bool = False
    """Draw the papers' numbers beside the study's."""
    overlay: bool = False
    """One set of figures for all conditions, each a series of its own."""
    labels: Mapping[Path, str] = field(default_factory=dict)
    """Names of the study folders in an overlay."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Titles of models, by name."""
    num_columns: int = 2
    """Columns of a paper that a figure spans."""
    show_titles: bool = True

    @property
    def width_inches(self) -> float:
        return PAGE_INCHES if self.num_columns == 2 else COLUMN_INCHES


def read_titles(path: Path) -> dict[str, str]:
    """A YAML or JSON mapping from models to titles; UserError names what is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        mapping = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--rename {path}: cannot be read ({reason}); give lines such as 'mixer-b/32: Ours'") from error
    if not isinstance(mapping, dict) or not all(map(_is_title, mapping.values())):
        raise UserError(f"--rename {path}: it is no mapping of models to titles; give lines such as 'mixer-b/32: Ours'")
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    models = [str(key.value) for key, _ in node.value]
    twice = next((model for model in models if models.count(model) > 1), None)
    if twice is not None:
        raise UserError(f"--rename {path}: {twice!r} has several titles; keep one of them")
    return {str(model): title for model, title in mapping.items()}


def _is_title(value: object) -> bool:
    """Text without control characters but line breaks."""
    return isinstance(value, str) and value != "" and printable(value.replace("\n", " ")) == value.replace("\n", " ")
