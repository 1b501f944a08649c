"""JSON texts nested as deeply as the API server takes them, which no encoder of Python writes."""

import json
from typing import Any

API_SERVER_LEVELS = 10_000
"""sigs.k8s.io/json, maxNestingDepth."""
DEEP = "nested deeply, see tests/nesting.py"
"""Stands in a value for what is nested deeply in its text."""


def nested(levels: int, around: str = "list", inmost: str = "1") -> str:
    """So many lists, or objects, in each other."""
    before, after = ("[", "]") if around == "list" else ('{"a\\\\": ', "}")
    return before * levels + inmost + after * levels


def deep_json(value: Any, levels: int = 5000) -> str:
    """The text of a value, with lists nested so deeply where it has DEEP."""
    return json.dumps(value).replace(json.dumps(DEEP), nested(levels))
