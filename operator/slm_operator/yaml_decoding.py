"""YAML that others wrote, decoded so that nothing in it can end or hold up this process.

YAML's merge keys (`<<`) copy what they name, so thirty lines of `&b {<<: [*a, *a]}` are a billion entries; PyYAML's scanner
looks at every open bracket with each sign, so a few thousand `[` take seconds; and its constructors raise whatever comes to
hand (AttributeError for a `!!timestamp` that is none). Assumes a text of bounded length. Must never give more entries of a
mapping than MOST_MERGED by merging, nor raise anything but ValueError.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST_MERGED = 1000
MOST_LEVELS = 100
"""Deepest nesting of brackets and braces."""


class BoundedLoader(yaml.SafeLoader):
    """A SafeLoader whose merges end, and whose brackets do."""

    flow_level: int

    def fetch_flow_collection_start(self, token_class: type[yaml.Token]) -> None:
        """Takes an opening bracket."""
        if self.flow_level >= MOST_LEVELS:
            raise yaml.scanner.ScannerError(None, None, "nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(token_class)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merges what `<<` names into the mapping, level by level."""
        own = len(node.value)
        super().flatten_mapping(node)
        if len(node.value) > max(own, MOST_MERGED):
            raise yaml.constructor.ConstructorError(
                None, None, f"merging gives a mapping more than {MOST_MERGED} entries", node.start_mark
            )


def decode_yaml(text: str) -> Any:
    """The value of a text with one YAML document. Raises ValueError, with one line."""
    try:
        return yaml.load(text, BoundedLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
