"""What a model's name says: family, scale and patch, its place in tables and its spelling in print.

Names follow the papers: `mixer-b/32`, `vit-l/16`, `bit-r152x2`. The scale is a letter (Ti, S, B, L, H, G) or, for
ResNets, depth times width squared, which orders them by parameters. A name outside these patterns is still
a model; its scale then comes from its parameter count.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

LETTER_SCALES = {"ti": 0, "s": 1, "b": 2, "l": 3, "h": 4, "g": 5}
MAX_SCALE = 5
FAMILY_TITLES = {"mixer": "Mixer", "vit": "ViT", "bit": "BiT"}

_LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"

ROOM = 28
"""Letters of a title that a figure has room for."""

_WORD_END = re.compile(r"[/:._-]")
_RESNET = re.compile(r"r(\d+)x(\d+)")
_PATCH = re.compile(r"/(\d+)")
_RESNET_STEPS = (20, 80, 400, 1200, 4000)
"""depth * width**2 of the first ResNet of the next scale: R50x1 is an S, R50x2 a B, R152x2 an L, R152x4 an H."""
_PARAM_STEPS = (12e6, 40e6, 150e6, 450e6, 1.5e9)
"""The same by body parameters, between the sizes of ViT Table 1."""


@dataclass(frozen=True, slots=True, order=True)
class ModelName:
    """Ordered by family, scale, patch (coarse before fine) and name."""

    family: str
    scale: int
    """0 (Ti) to 5 (G)."""
    minus_patch: int
    name: str
    label: str = ""
    """The title of the model that a user prefers."""
    short: str = field(default="", compare=False)
    """The base title as figures have room for it, where that is less than all of it (`short_titles`)."""

    @property
    def patch(self) -> int | None:
        """Side of a patch in pixels; None for a network without patches."""
        return -self.minus_patch or None

    @property
    def title(self) -> str:
        """The spelling of the papers, Mixer-B/32, ViT-L/16, BiT-R152x2, or the user's; with what tells series apart."""
        base, bracket, series = self._spelled.partition(" [")
        return in_its_place(base) + bracket + series

    @property
    def _spelled(self) -> str:
        if self.label:
            return self.label + "".join(self.name.partition(" [")[1:])
        head, dash, tail = self.name.partition("-")
        if head.lower() not in FAMILY_TITLES:
            return self.name
        size, slash, rest = tail.partition("/")
        if size.lower() in LETTER_SCALES or _RESNET.fullmatch(size.lower()):
            size = size[:1].upper() + size[1:]
        return FAMILY_TITLES[head.lower()] + dash + size + slash + rest

    @property
    def base_title(self) -> str:
        """The title without what tells series of the model apart."""
        return self._spelled.partition(" [")[0]

    @property
    def figure_title(self) -> str:
        """The title as it stands in a figure."""
        return in_its_place(self.short or self.base_title) + "".join(self._spelled.partition(" [")[1:])

    @property
    def panel_title(self) -> str:
        """The figure's title with what tells a series apart on a line of its own, for narrow panels."""
        return self.figure_title.replace(" [", "\n[")


def in_its_place(title: str) -> str:
    """A title that other words can stand beside: one with letters that are read from right to left, as those of Arabic
    and Hebrew, between marks of direction, without which `A - B` is drawn as `B - A`."""
    is_turned = any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in title)
    return f"{_LEFT_TO_RIGHT}{title}{_LEFT_TO_RIGHT}" if is_turned else title


def with_short_titles(models: Mapping[str, ModelName]) -> dict[str, ModelName]:
    """The models with titles that fit into figures; tables keep the whole ones."""
    short = short_titles({model.base_title for model in models.values()})
    return {name: replace(model, short=short[model.base_title]) for name, model in models.items()}


def short_titles(titles: Collection[str]) -> dict[str, str]:
    """Titles of about `ROOM` letters, all different: of long ones first goes what they share, then the middle."""
    long = sorted(title for title in titles if len(title) > ROOM)
    start, end = _shared(long, spared=1), _shared([title[::-1] for title in long], spared=0)
    for room in range(ROOM, max(map(len, titles), default=0) + 1, 4):
        told = {title: _shortened(title, start, end, room) if title in long else title for title in titles}
        if len(set(told.values())) == len(told):
            return told
    return {title: title for title in titles}


def _shared(titles: Sequence[str], spared: int) -> int:
    """Letters at the beginning that all of several titles share, in whole words, the last `spared` of them kept."""
    if len(titles) < 2:
        return 0
    words = [found.end() for found in _WORD_END.finditer(titles[0][: _num_equal(titles)])]
    return words[-1 - spared] if len(words) > spared else 0


def _num_equal(titles: Sequence[str]) -> int:
    """Letters at the beginning in which all agree."""
    columns = zip(*titles, strict=False)
    return next((place for place, letters in enumerate(columns) if len(set(letters)) > 1), min(map(len, titles)))


def _shortened(title: str, start: int, end: int, room: int) -> str:
    core = title[start : len(title) - end]
    if len(core) > room:
        core = core[: room - room // 2] + "…" + core[-(room // 2) + 1 :]
    return ("…" if start else "") + core + ("…" if end else "")


def parse_model_name(name: str, family: str = "", num_body_params: float | None = None) -> ModelName:
    """Read `name`; `family` defaults to the text before the first hyphen."""
    head, _, tail = name.partition("-")
    patch = _PATCH.search(name)
    return ModelName(
        family=(family or head).lower(),
        scale=_scale(tail.lower(), num_body_params),
        minus_patch=-int(patch[1]) if patch else 0,
        name=name,
    )


def _scale(tail: str, num_body_params: float | None) -> int:
    letter = re.match(r"[a-z]+", tail)
    if letter and letter[0] in LETTER_SCALES:
        return LETTER_SCALES[letter[0]]
    resnet = _RESNET.search(tail)
    if resnet:
        return sum(int(resnet[1]) * int(resnet[2]) ** 2 >= step for step in _RESNET_STEPS)
    if num_body_params:
        return sum(num_body_params >= step for step in _PARAM_STEPS)
    return LETTER_SCALES["b"]
