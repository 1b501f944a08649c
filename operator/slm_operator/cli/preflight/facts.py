"""What `kubectl slm check` looks at, gathered: plain values, each possibly unseen.

A fact that this user has no right to is `Unseen` and not an error, so that a developer's check says what it can. Must
never judge: the tables of checks do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_operator.cli.preflight.doors import Doors
    from slm_operator.cli.preflight.packs import Autoscaler, PackSeen
    from slm_operator.cli.preflight.stack import DaemonSet
    from slm_operator.planning.fleet.node.state import NodeState
    from slm_operator.planning.fleet.tolerations import Toleration


@dataclass(frozen=True, slots=True)
class Unseen:
    """A fact that this user may not look at, by the right that is missing."""

    right: str
    """`list nodes`, say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One installation of the operator: its apps/v1 Deployment."""

    namespace: str
    name: str
    wanted: int
    ready: int
    version: str
    """Of its label, else of its image; `?` when neither tells."""
    settings_map: str | None
    """ConfigMap that holds its settings."""
    secure_metrics: bool = False
    """Whether it serves its metrics by TLS, and asks who scrapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSeen:
    """The Lease by which one operator acts."""

    holder: str
    age_seconds: float
    """Since its last renewal, by this machine's clock."""
    renewing: bool
    """Whether it is being renewed: young, or renewed while it was looked at twice (which no wrong clock can hide)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaSeen:
    """How the API that is served differs from the one that this command was made for. Paths of fields, by kind."""

    lacking: tuple[str, ...] = ()
    """Fields that this command knows and the cluster does not."""
    unknown: tuple[str, ...] = ()
    """Fields that the cluster knows and this command does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, as planning sees it, and its kubelet."""

    state: NodeState
    kubelet: str = ""
    """Its version: v1.34.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One SLMDeployment, as far as the checks look."""

    name: str
    """namespace/name."""
    mode: str
    """spec.sharing.mode."""
    image: str = ""
    """Of its engine: given, or of the defaults that it keeps."""
    tolerations: tuple[Toleration, ...] = ()
    """Of its pods: given, and of the defaults that it keeps."""
    older: tuple[str, ...] = ()
    """Defaults of the operator that it would have otherwise now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was seen."""

    namespace: str
    """Namespace that the command is about."""
    server: str
    """Version of the API server: v1.34.2."""
    missing_kinds: tuple[str, ...] = ()
    """Kinds of ours that the API server does not serve."""
    schema: SchemaSeen | Unseen = SchemaSeen()
    operators: tuple[Installed, ...] | Unseen = ()
    lease: LeaseSeen | Unseen | None = None
    settings: Settings = field(default_factory=Settings)
    """The operator's, or the defaults."""
    settings_doubt: str = ""
    """Why these may not be the operator's settings: no right, no operator, or what is broken in them."""
    rights_missing: Mapping[str, str] = field(default_factory=dict)
    """Rights that this user lacks (`create slmdeployments`), each with what needs it."""
    nodes: tuple[Node, ...] | Unseen = ()
    plugin_pods_seen: bool = True
    """Whether this user may see the pods of NVIDIA's stack; nodes show none otherwise."""
    daemon_sets: tuple[DaemonSet, ...] | Unseen = ()
    plugin_config: Mapping[str, str] | Unseen | None = None
    """Data of the device plugin's ConfigMap; None: it does not exist."""
    wishes: tuple[Wish, ...] | Unseen = ()
    packs: tuple[PackSeen, ...] | Unseen = ()
    """Packs in pods of the namespace."""
    autoscalers: tuple[Autoscaler, ...] | Unseen = ()
    """Those of its SLMDeployments."""
    doors: Doors | Unseen | None = None
    """What the chart has made that closes one; None: nobody has looked."""
    libraries: Mapping[str, bool | Unseen] = field(default_factory=dict)
    """Namespaces that the settings take profiles from, each with whether it exists."""

    @property
    def opted_in(self) -> tuple[Node, ...]:
        """Nodes that the operator may change, as far as they are seen."""
        return () if isinstance(self.nodes, Unseen) else tuple(node for node in self.nodes if node.state.opted_in)

    def daemons(self, part: str) -> tuple[DaemonSet, ...]:
        """DaemonSets of one part of NVIDIA's stack, wherever they are."""
        found = () if isinstance(self.daemon_sets, Unseen) else self.daemon_sets
        return tuple(one for one in found if one.part == part)
