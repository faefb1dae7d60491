"""JSON of users, read without a choice of ours: a key that is written twice in one object is an error.

JSON allows it, and most readers keep the last value without a word: a sample's label, or a class, would be one of two.
"""

import json
from collections import Counter
from typing import Any


def read_json(content: str | bytes) -> Any:
    """The value of a JSON text; ValueError says what is wrong, RecursionError that it is nested too deeply."""
    return _DECODER.decode(content if isinstance(content, str) else content.decode(json.detect_encoding(content)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} is written twice in one object; keep one of the two")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
