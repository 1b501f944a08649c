"""The forms in which advice is written for somebody else's workload, each a table row: its files, and what they are for.

`-o args` has its arguments, one a line; `json-patch` a patch for `kubectl patch --type json`; `kustomize` the same patch with a
component that applies it; `helm-values` the values of the one chart that makes such objects. Must never decide anything.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.kubectl_yaml import Dumper
from slm_operator.cli.inputs.workloads.registry import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slm_operator.cli.inputs.workloads.base import Raw, RunningEngine
    from slm_operator.cli.render.patches.operations import Operation

PATCH, COMPONENT = "advice-patch.yaml", "kustomization.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be written."""

    raw: Raw
    """The object as it is."""
    after: RunningEngine
    """The engine as it would be."""
    patch: Sequence[Operation]


def _args(change: Change) -> dict[str, str]:
    return {"args.txt": "".join(f"{word}\n" for word in _arguments(change))}


def _arguments(change: Change) -> list[str]:
    """NB: all of them, so that no secret may be among them."""
    after = change.after
    for flag in after.line.flags:
        if flag.name in after.engine.secret_flags:
            raise Refused(
                f"{after.subject}: {flag.name} is among its arguments, and its value would be written out: give "
                f"{after.engine.key_variable} as a variable from a Secret instead, or take -o json-patch"
            )
    return [word.text for word in after.arguments]


def _json_patch(change: Change) -> dict[str, str]:
    return {"advice-patch.json": json.dumps(list(change.patch), indent=2, ensure_ascii=False) + "\n"}


def _kustomize(change: Change) -> dict[str, str]:
    group, _, version = change.after.subject.api_version.rpartition("/")
    target = {
        "group": group, "version": version, "kind": change.after.subject.kind, "name": change.after.subject.name,
    }  # fmt: skip
    if change.after.subject.namespace:
        target["namespace"] = change.after.subject.namespace
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "patches": [{"path": PATCH, "target": target}],
    }
    return {PATCH: as_yaml(list(change.patch)), COMPONENT: as_yaml(component)}


def _helm_values(change: Change) -> dict[str, str]:
    kind = kind_of(change.raw)
    if kind is None or kind.helm is None:
        raise Refused(
            f"{change.after.subject}: which chart made it, and by which of its values, is not known: take -o args into your values, "
            "or -o kustomize"
        )
    own = [word.text for word in change.after.arguments if word.origin is not None]
    _arguments(change)
    return {"values.yaml": f"# Values of {kind.helm_chart}.\n{as_yaml(kind.helm(change.after.subject, own))}"}


FORMS: dict[str, Callable[[Change], dict[str, str]]] = {
    "args": _args, "json-patch": _json_patch, "kustomize": _kustomize, "helm-values": _helm_values,
}  # fmt: skip
"""Each to its files by name."""


def as_yaml(value: Any) -> str:
    """As kubectl reads it."""
    text: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text
