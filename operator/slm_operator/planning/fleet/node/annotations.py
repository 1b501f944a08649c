"""What is remembered on a node itself: what it is being changed to, and what it could not become. As JSON, and read back.

The values are data, and sentences are made of them last. Annotations that earlier releases wrote are still read
("mps-2 for team.chat", "given back", lines of `class: why`): an upgrade in the middle of a change goes on with it.
Must never raise: anybody may edit an annotation, and what cannot be read is nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_GIVEN_BACK = "given back"


class Marks(NamedTuple):
    """What a node is, or shall be: how its GPUs are cut, and for whom. Both None: nobody's."""

    class_label: str | None = None
    """Value of the class label."""
    serves: str | None = None
    """Value of the serves label."""

    def __str__(self) -> str:
        return f"{self.class_label} for {self.serves}" if any(self) else _GIVEN_BACK


RELEASED = Marks()


def change_text(becomes: Marks) -> str:
    """The value of `changing-to`."""
    data = {"class": becomes.class_label, "serves": becomes.serves} if any(becomes) else {"givenBack": True}
    return json.dumps(data)


def change_in(annotation: str | None) -> Marks | None:
    """What a value of `changing-to` says. None when there is none, or nothing that can be read."""
    data = _object(annotation)
    if data is None:
        return _before_json(annotation or "")
    if data.get("givenBack") is True:
        return RELEASED
    label, serves = data.get("class"), data.get("serves")
    return Marks(label, serves) if isinstance(label, str) and isinstance(serves, str) else None


def _before_json(annotation: str) -> Marks | None:
    if annotation == _GIVEN_BACK:
        return RELEASED
    label, between, serves = annotation.partition(" for ")
    return Marks(label, serves) if between else None


def failures_text(failures: Mapping[str, str]) -> str | None:
    """The value of `change-failed`: class to why. None when there is nothing to say."""
    return json.dumps(dict(failures), sort_keys=True) if failures else None


def failures_in(annotation: str | None) -> dict[str, str]:
    """Class to why it failed."""
    data = _object(annotation)
    if data is not None:
        return {label: str(why) for label, why in data.items() if label}
    lines = (line.partition(": ") for line in (annotation or "").splitlines())
    return {label: why for label, _, why in lines if label}


def _object(text: str | None) -> dict[str, Any] | None:
    """A JSON object; None for any other text, such as what older releases wrote."""
    try:
        data = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None
