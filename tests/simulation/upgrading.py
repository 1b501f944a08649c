"""The GPU Operator upgrades the driver of a node: cordon, end what holds GPUs, make driver and device plugin anew, uncordon.

Its pods do not tolerate the operator's taint. Each state is a label that stands for a while, as k8s-operator-libs has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.partitioning.discovery import DRIVER_UPGRADE_LABEL
from slm_operator.watch.records import Cause

from .machines import MOST_KEPT_AWAY_SECONDS
from .objects import BrokenPromiseError
from .situations import Situation

if TYPE_CHECKING:
    from .machines import Machines
    from .objects import Node
    from .world import World


@dataclass(slots=True)
class Upgrades:
    """Of all nodes."""

    world: World
    machines: Machines

    def begin(self, node: Node) -> None:
        """A new driver is wanted; the node waits for its turn."""
        if node.labels.get(DRIVER_UPGRADE_LABEL, "upgrade-done") != "upgrade-done":
            return
        if node.changes:
            self.world.meets(Situation.UPGRADED_IN_A_CHANGE)
        self._becomes(node, "upgrade-required")
        self.world.at(self.world.lag(1, 300), self._cordon, node)

    def _becomes(self, node: Node, state: str) -> None:
        node.labels[DRIVER_UPGRADE_LABEL] = state
        if self._is_there(node):
            self.world.node_changed(node)

    def _is_there(self, node: Node) -> bool:
        return self.world.nodes.get(node.name) is node

    def _cordon(self, node: Node) -> None:
        node.unschedulable = True
        self._becomes(node, "drain-required")
        self.world.at(self.world.lag(1, 30), self._drain, node)

    def _drain(self, node: Node) -> None:
        for pod in self.world.on(node.name) if self._is_there(node) else ():
            job = self.world.jobs.get(pod.key)
            if job is not None and not job.finished:
                self.world.pod_gone(pod)
                job.finished, job.failed_because = True, Cause("BackoffLimitExceeded")
                self.world.made_changed("Job", job)
                continue
            pod.deleting, pod.ready = True, False
            self.world.pod_changed(pod)
        self.world.at(self.world.lag(20, 40), self._restart_driver, node)

    def _restart_driver(self, node: Node) -> None:
        self._becomes(node, "pod-restart-required")
        node.driver_up = False
        if self._is_there(node):
            self.machines.delete_plugin(node)
            self._await_driver(node, None)

    def _await_driver(self, node: Node, since: float | None) -> None:
        """The driver's pod comes where no taint is in its way."""
        if not self._is_there(node):
            return
        taints = {taint.key for taint in node.taints if taint.effect == "NoSchedule"}
        if not taints:
            self.world.at(self.world.lag(20, 200), self._finish, node)
            return
        kept_by_us = taints == {names.CHANGING_TAINT}
        since = (since if since is not None else self.world.now) if kept_by_us else None
        late = since is not None and self.world.now - since > MOST_KEPT_AWAY_SECONDS
        if late and not self.world.clock_was_set:
            raise BrokenPromiseError(f"our taint keeps the new driver of {node.name} away since {since:.0f}s")
        self.world.at(5, self._await_driver, node, since)

    def _finish(self, node: Node) -> None:
        node.driver_up = True
        node.unschedulable = False
        self._becomes(node, "uncordon-required")
        if self._is_there(node):
            self.machines.see_to_plugin(node)
        self.world.at(self.world.lag(0.1, 5), self._becomes, node, "upgrade-done")
