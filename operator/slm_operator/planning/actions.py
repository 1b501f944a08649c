"""Everything the operator can do to a cluster: a closed union of values.

A plan is a tuple of these. The executor matches them all (assert_never), so a new action cannot be forgotten there.
Must never carry a callable, a client or a clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.watch.records import Key, Taint

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of a whole object with our field manager. Skipped by the executor when nothing would change."""

    manifest: Manifest
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetReplicas:
    """Server-side apply of `spec.replicas` of an SLMDeployment and nothing else, with a field manager of its own.

    Without force, and only if it is still at `resource_version`: where somebody has set the field meanwhile, theirs stays.
    """

    deployment: Key
    uid: str
    resource_version: str
    replicas: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleWorkload:
    """Change the number of replicas of an apps/v1 Deployment of ours and nothing else of it, if it is still at `resource_version`.

    For one whose template is not to be written: what it would be made from is not known now.
    """

    workload: Key
    resource_version: str
    replicas: int
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Delete an object, with its uid as precondition, so that a namesake made meanwhile survives.

    Of a kind that is not watched no uid is known: then the one of this name goes, if `controller` made it.
    """

    api_version: str
    kind: str
    key: Key
    uid: str | None
    because: str
    controller: str = ""
    """uid of the object that must be its controller, where its own is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evict:
    """Ask the eviction API to remove a pod of ours. A PDB may refuse: the next pass asks again.

    `changing_node`: only while that node changes by what the API server says at that moment, for news of its end may be late.
    """

    pod: Key
    uid: str
    changing_node: str | None = None
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchNode:
    """Change labels, annotations or our taint of a node, all in one write, if it is still at `resource_version`.

    A value of None removes the label or annotation. `taints`, when given, is the whole new list. `only_if_free`: only if no pod
    holds its devices by what the API server says at that moment, for news of one may be late.
    """

    node: str
    resource_version: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    taints: tuple[Taint, ...] | None = None
    only_if_free: bool = False
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """Add or remove keys of the device plugin's ConfigMap, if it is still at `resource_version`. Never edits a key."""

    config_map: Key
    resource_version: str
    add: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus:
    """Server-side apply of status. Skipped by the executor when it equals what was last seen."""

    api_version: str
    kind: str
    key: Key
    uid: str
    status: Mapping[str, Any]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitEvent:
    """A Kubernetes event about one of our objects or a node. Deduplicated by the recorder."""

    api_version: str
    kind: str
    key: Key
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Action = Apply | SetReplicas | ScaleWorkload | Delete | Evict | PatchNode | PatchConfig | WriteStatus | EmitEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one pass decides: actions in order, and when to look again although nothing changed (seconds)."""

    actions: tuple[Action, ...] = ()
    look_again_seconds: float | None = None
