"""The state that is kept on a node itself, as JSON in annotations: its target, and the classes that failed there.

The values are data, and sentences are made of them last. Must never raise: anybody may edit an annotation, and one that
cannot be read counts as absent.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Marks(NamedTuple):
    """A node's present state or its target: how its GPUs are partitioned, and for whom. Both None: it serves nobody."""

    class_label: str | None = None
    """Value of the class label."""
    serves: str | None = None
    """Value of the serves label."""

    def __str__(self) -> str:
        return f"{self.class_label} for {self.serves}" if any(self) else "given back"


RELEASED = Marks()
AWAY = "away"
"""Value of `change-failed-on` of a node that has been away since."""


def change_text(becomes: Marks, healthy_gpus: int) -> str:
    """The value of `changing-to`.

    `healthy_gpus`: GPUs that can be given, as they were counted before it: while a node loads another configuration nothing tells.
    """
    data = {"class": becomes.class_label, "serves": becomes.serves} if any(becomes) else {"givenBack": True}
    return json.dumps(data | {"healthyGpus": healthy_gpus})


def change_in(annotation: str | None) -> Marks | None:
    """What a value of `changing-to` says. None when there is none, or nothing that can be read."""
    data = _object(annotation)
    if data.get("givenBack") is True:
        return RELEASED
    label, serves = data.get("class"), data.get("serves")
    return Marks(label, serves) if isinstance(label, str) and isinstance(serves, str) else None


def healthy_gpus_in(annotation: str | None) -> int | None:
    """How many GPUs a value of `changing-to` says can be given. None when it does not say."""
    count = _object(annotation).get("healthyGpus")
    return count if type(count) is int and count > 0 else None


def failures_text(failures: Mapping[str, str]) -> str | None:
    """The value of `change-failed`: class to why. None when there is nothing to say."""
    return json.dumps(dict(failures), sort_keys=True) if failures else None


def failures_in(annotation: str | None) -> dict[str, str]:
    """Class to why it failed."""
    return {label: str(why) for label, why in _object(annotation).items() if label}


def is_over(failed_on: str | None, release: str | None, *, away: bool) -> bool:
    """Whether a change that failed on a node may be tried once more: it has been away since, or its plugin is another release.

    `failed_on`: value of `change-failed-on`, the plugin's release then, where it was known, or AWAY. `release`: the one of now.
    """
    if failed_on == AWAY:
        return not away
    return bool(failed_on and release) and failed_on != release


def _object(text: str | None) -> dict[str, Any]:
    """A JSON object; an empty one for any other text."""
    try:
        data = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
