"""The objects of the simulated cluster, as its API server has them, and raw as it gives them to whoever watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.partitioning import discovery
from slm_operator.partitioning.base import UNSHARED
from slm_operator.settings import DevicePlugin
from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_operator.partitioning.base import SliceClass
    from slm_operator.watch.records import Cause, Taint

    from .divided import Division

Raw = dict[str, Any]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PLUGIN = DevicePlugin()
CONFIG_LABEL = PLUGIN.config_label
CONFIG_MAP = Key(PLUGIN.namespace, PLUGIN.config_map)
PRODUCT, OTHER_PRODUCT = "NVIDIA-H100-80GB-HBM3", "NVIDIA-L4"
PRODUCT_LABEL = discovery.PRODUCT_LABEL
TEMPLATE_HASH = "5f4d"
"""Of every ReplicaSet: a Deployment's pods have one each, by its template."""


class BrokenPromiseError(AssertionError):
    """The operator did what it must never do, or did not come to an end."""


def plugin_of(node: str) -> Key:
    """The device plugin's pod on a node."""
    return Key(PLUGIN.namespace, f"plugin-{node}")


def daemon_of(node: str) -> Key:
    """The MPS daemon's pod on a node."""
    return Key(PLUGIN.namespace, f"mps-{node}")


def head(key: Key, uid: str, version: int, **more: Any) -> Raw:
    """`metadata`."""
    where = {"namespace": key.namespace} if key.namespace else {}
    return {"name": key.name, **where, "uid": uid, "resourceVersion": str(version), **more}


def said(kind: str, *, holds: bool, **more: str) -> Raw:
    """A condition."""
    return {"type": kind, "status": "True" if holds else "False", **more}


@dataclass(slots=True)
class Node:
    """A node as the API server has it, and below the line what only the machine itself knows."""

    name: str
    gpus: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    unschedulable: bool = False
    allocatable: dict[str, int] = field(default_factory=dict)
    uid: str = ""
    version: int = 0

    requested_config: str | None = None
    """The label's value that the config-manager last obeyed."""
    switched_at: float = 0.0
    """When the operator switched the label last."""
    loaded: SliceClass = UNSHARED
    plugin_up: bool = True
    """Whether the pod of its device plugin is on it."""
    plugin_comes: bool = False
    driver_up: bool = True
    """Whether its driver runs: no plugin comes without one."""
    plugin_version: int = 1
    kept_away_since: float | None = None
    """Since when nothing but our taint keeps that pod away."""
    projected: dict[str, str] = field(default_factory=dict)
    daemon_started: str | None = None
    """When the MPS daemon came up; None while it is not ready."""
    daemon_version: int = 0
    daemon_loaded: SliceClass = UNSHARED
    """The class whose limits that daemon has: it hears of no other as long as it runs."""
    daemon_quits: bool = False
    """Whether it is ending, which takes its time."""
    slowness: float = 1.0
    """How many times longer than usual its parts take to load a configuration."""
    faults: set[str] = field(default_factory=set)
    """`stuck`: its plugin loads nothing new. `no-daemon`: its MPS daemon never comes."""
    unhealthy: set[int] = field(default_factory=set)
    """GPUs of which its plugin has taken one device out: all of one that is not shared, else one slice."""
    daemon_comes: bool = False
    """Whether its MPS daemon is on its way."""
    opened_by_hand: bool = False
    """Whether somebody took our taint off, and we have not put it back yet."""
    divided: Division | None = None
    """How somebody else has divided its GPUs, for good."""
    owed: dict[str, str | None] = field(default_factory=dict)
    """Labels, by name, that an administrator has a right to find when we are gone."""

    @property
    def changes(self) -> bool:
        """Whether the operator is changing it."""
        return names.CHANGE_STARTED_ANNOTATION in self.annotations

    def raw(self) -> Raw:
        meta = head(Key("", self.name), self.uid, self.version)
        taints = [{"key": one.key, "value": one.value, "effect": one.effect} for one in self.taints]
        return {
            "metadata": meta | {"labels": dict(self.labels), "annotations": dict(self.annotations)},
            "spec": {"unschedulable": self.unschedulable, "taints": taints},
            "status": {
                "allocatable": {name: str(count) for name, count in self.allocatable.items()},
                "conditions": [said("Ready", holds=self.ready)],
            },
        }

    def plugin(self) -> Raw | None:
        """The device plugin's pod, while it is there."""
        if not self.plugin_up:
            return None
        parts = ("nvidia-device-plugin-ctr", "nvidia-device-plugin-sidecar")
        return self._daemon(
            head(plugin_of(self.name), f"plugin-{self.uid}-{self.plugin_version}", self.plugin_version), parts, None
        )

    def daemon(self) -> Raw | None:
        """The MPS daemon's pod, while it runs."""
        if self.daemon_started is None:
            return None
        meta = head(daemon_of(self.name), f"mps-{self.uid}", self.daemon_version)
        return self._daemon(meta, ("mps-control-daemon-ctr",), self.daemon_started)

    def _daemon(self, meta: Raw, containers: tuple[str, ...], started: str | None) -> Raw:
        running = {} if started is None else {"state": {"running": {"startedAt": started}}}
        statuses = [{"name": name, "ready": True} | running for name in containers]
        return {
            "metadata": meta,
            "spec": {"nodeName": self.name, "containers": [{"name": name} for name in containers]},
            "status": {"conditions": [said("Ready", holds=True)], "containerStatuses": statuses},
        }


@dataclass(slots=True)
class Pod:
    """A pod that asks for GPUs."""

    key: Key
    uid: str
    requests: dict[str, int]
    labels: dict[str, str] = field(default_factory=dict)
    selector: dict[str, str] = field(default_factory=dict)
    template: str = ""
    owner: Key | None = None
    """The Deployment that it is a replica of; None for somebody else's pod and for one that measures."""
    job: str | None = None
    """uid of the Job that made it, for one that measures."""
    terms: Sequence[Mapping[str, Any]] | None = None
    """Of the node affinity that it requires."""
    measured_on: str | None = None
    """The product that an engine's advice was measured on."""
    wishes: dict[str, int] = field(default_factory=dict)
    """Weight of each host that it would rather be on."""
    assumed: str | None = None
    tried: bool = False
    """Whether the scheduler has looked for a node and found none."""
    let_in: bool = False
    """Whether it was placed on a node that somebody had opened by hand in the middle of a change."""
    node: str | None = None
    phase: str = "Pending"
    ready: bool = False
    ready_at: float = 0.0
    deleting: bool = False
    started: str | None = None
    failed_because: Cause | None = None
    device: str | None = None
    """The GPU that its kubelet gave it."""
    printed: str = ""
    """Its log, each line behind its time."""
    version: int = 0

    def raw(self) -> Raw:
        labels = self.labels if self.owner is None else self.labels | {"pod-template-hash": TEMPLATE_HASH}
        meta = head(self.key, self.uid, self.version, labels=labels, ownerReferences=self._owners())
        if self.deleting:
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        limits = {name: str(count) for name, count in self.requests.items()}
        placed = {} if self.node is None else {"nodeName": self.node}
        return {
            "metadata": meta,
            "spec": placed | {"containers": [{"name": "engine", "resources": {"limits": limits}}]},
            "status": self._status(),
        }

    def _status(self) -> Raw:
        unplaced = (
            [said("PodScheduled", holds=False, message="no node fits")] if self.node is None and self.tried else []
        )
        status: Raw = {"phase": self.phase, "conditions": [said("Ready", holds=self.ready), *unplaced]}
        if self.failed_because is not None:
            status |= {"reason": self.failed_because.reason, "message": self.failed_because.message}
        container: Raw = {}
        if self.started is not None:
            container["state"] = {"running": {"startedAt": self.started}}
        if self.device is not None:
            held = {"resourceID": f"{self.device}::0", "health": "Healthy"}
            container["allocatedResourcesStatus"] = [{"resources": [held]}]
        return status | {"containerStatuses": [container]}

    def _owners(self) -> list[Raw]:
        if self.owner is not None:
            name = f"{self.owner.name}-{TEMPLATE_HASH}"
            return [{"kind": "ReplicaSet", "name": name, "uid": f"uid-{name}", "controller": True}]
        return [{"kind": "Job", "name": self.key.name, "uid": self.job, "controller": True}] if self.job else []

    @property
    def holds(self) -> bool:
        """Whether it occupies devices on its node."""
        return self.node is not None and self.phase not in {"Succeeded", "Failed"}
