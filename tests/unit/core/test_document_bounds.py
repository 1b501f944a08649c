"""Every list of the measurement document has a longest length: a reader refuses more, and the API server weighs rules by it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from slm_core.measurements import MOST_ITEMS, MeasurementDocument, camel

if TYPE_CHECKING:
    from collections.abc import Iterator


def lists(kind: type[Any]) -> Iterator[str]:
    """JSON names of the lists of a document's type, and of the types inside."""
    hints = get_type_hints(kind)
    for one in fields(kind):
        hint = hints[one.name]
        if get_origin(hint) is tuple:
            yield camel(one.name)
        for inner in (hint, *get_args(hint)):
            if is_dataclass(inner):
                yield from lists(inner)


def test_every_list_of_a_document_has_a_bound() -> None:
    assert set(lists(MeasurementDocument)) == set(MOST_ITEMS)
