"""What a reader may ask of a report beyond its records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from analysis.figures.canvas.style import COLUMN_INCHES, PAGE_INCHES
from scaling.errors import UserError, shown, unprintable
from scaling.records.files import open_regular

MAX_TITLES_BYTES = 100_000
"""Of a file of --rename."""


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
        with open_regular(path) as stream:
            content = stream.read(MAX_TITLES_BYTES + 1)
        if len(content) > MAX_TITLES_BYTES:
            raise UserError(f"--rename {path}: it has more than {MAX_TITLES_BYTES:,} bytes; name the models of a study")
        node = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()) if not isinstance(error, RecursionError) else "nested too deeply"
        raise UserError(f"--rename {path}: cannot be read ({reason}); give lines such as 'mixer-b/32: Ours'") from error
    # The nodes are read as they are written: a mapping of YAML would keep the last of two lines about one model.
    pairs: list[tuple[yaml.Node | None, yaml.Node | None]]
    pairs = node.value if isinstance(node, yaml.MappingNode) else [(node, node)]
    titles: dict[str, str] = {}
    for key, title in pairs:
        if not isinstance(key, yaml.ScalarNode) or not isinstance(title, yaml.ScalarNode) or not _is_title(title):
            raise UserError(
                f"--rename {path}: it is no mapping of models to titles; give lines such as 'mixer-b/32: Ours'"
            )
        if key.value in titles:
            raise UserError(f"--rename {path}: {shown(key.value)} has several titles; keep one of them")
        titles[key.value] = title.value
    return titles


def _is_title(node: yaml.ScalarNode) -> bool:
    """Text without control characters but line breaks."""
    return node.tag == "tag:yaml.org,2002:str" and node.value != "" and not unprintable(node.value.replace("\n", " "))
