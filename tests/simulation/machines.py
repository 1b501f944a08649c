"""What runs on the nodes: kubelet, NVIDIA's device plugin with its config-manager, feature discovery, the MPS daemon.

Each does what reference traces of NVIDIA's binaries show: only a change of the label loads a configuration, a label that
names a missing key makes the config-manager exit and come again, a renamed resource leaves the old one at 0, the plugin
advertises nothing under MPS before the daemon runs, and the daemon does not tolerate the operator's taint.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode
from slm_operator.api import names
from slm_operator.partitioning.node_slices import REPLICAS_LABEL, STRATEGY_LABEL
from slm_operator.partitioning.plugin_config import class_of_config
from slm_operator.settings import Settings
from slm_operator.watch.records import Cause

from .objects import CONFIG_LABEL, PRODUCT_LABEL, BrokenPromiseError, plugin_of
from .runtime import result_of
from .situations import Situation

if TYPE_CHECKING:
    from slm_operator.watch.records import Key

    from .made import Job
    from .objects import Node, Pod
    from .world import World

STRATEGIES = {SharingMode.EXCLUSIVE: "none", SharingMode.TIME_SLICING: "time-slicing", SharingMode.MPS: "mps"}
SETTINGS = Settings()
MOST_KEPT_AWAY_SECONDS = 240.0
"""How long our taint may keep the plugin's pod away: a moment, as long as the operator is not killed again and again."""
MPS_CAPABLE = "nvidia.com/mps.capable"


@dataclass(slots=True)
class Machines:
    """All nodes' own parts."""

    world: World
    refused: list[str] = field(default_factory=list)
    """Replicas that the kubelet did not admit."""

    def __post_init__(self) -> None:
        self.world.watchers.append(self.changed)

    def changed(self, kind: str, key: Key) -> None:
        """A write that a part on a node watches."""
        if kind == "Node" and (node := self.world.nodes.get(key.name)) is not None:
            if node.labels.get(CONFIG_LABEL) != node.requested_config:
                self.world.at(node.slowness * self.world.lag(0.5, 4), self._obey, node)
            self._see_to_daemon(node)
            self.see_to_plugin(node)
        elif kind == "Pod" and (pod := self.world.pods.get(key)) is not None:
            if pod.node is not None and pod.phase == "Pending" and not pod.deleting:
                self.world.at(self.world.lag(0.2, 2), self._admit, pod)
            if pod.deleting:
                self.world.at(self.world.lag(1, 20), self._remove, pod)

    def boot(self, node: Node) -> None:
        """A node comes up with what its label says."""
        node.projected = dict(self.world.config or {})
        node.requested_config = node.labels.get(CONFIG_LABEL)
        text = node.projected.get(node.requested_config or "default", "version: v1")
        node.loaded = class_of_config(text) or node.loaded
        if node.divided is not None:
            node.loaded = node.divided.loaded
        self._advertise(node)
        self._discover(node)

    def lags_behind(self, node: Node) -> bool:
        """Whether its label names another configuration than is loaded."""
        text = node.projected.get(node.labels.get(CONFIG_LABEL) or "default")
        return text is not None and class_of_config(text) not in {None, node.loaded}

    def _obey(self, node: Node, again: bool = False) -> None:  # noqa: FBT001, FBT002
        """The config-manager: a changed label picks a key."""
        label = node.labels.get(CONFIG_LABEL)
        if (label == node.requested_config and not again) or self.world.nodes.get(node.name) is not node:
            return
        if not node.plugin_up:
            return
        node.requested_config = label
        text = node.projected.get(label or "default")
        if text is None:
            self.world.at(self.world.lag(10, 40), self._obey_again, node, label)
            return
        if "stuck" not in node.faults:
            self.world.at(node.slowness * self.world.lag(0.5, 3), self._load, node, text, label)

    def _obey_again(self, node: Node, label: str | None) -> None:
        if label == node.requested_config:
            self._obey(node, again=True)

    def _load(self, node: Node, text: str, label: str | None) -> None:
        loaded = class_of_config(text)
        if loaded is None or label != node.requested_config or node.divided is not None or not node.plugin_up:
            return
        by_operator = label is None or label.startswith(names.CONFIG_KEY_PREFIX)
        if by_operator and not self._is_by_hand(node) and loaded != node.loaded:
            holders = [str(pod.key) for pod in self.world.on(node.name) if not self._is_excused(node, pod)]
            if holders:
                raise BrokenPromiseError(f"{node.name} loads {loaded.label} under {', '.join(holders)}")
        if loaded != node.loaded:
            self.world.tell("node", f"{node.name} loads {loaded.label}")
        node.loaded = loaded
        node.unhealthy.clear()  # the plugin looks anew, and is told of a fault once
        self._see_to_daemon(node)
        self.world.at(node.slowness * self.world.lag(1, 9), self._advertise, node)
        self.world.at(node.slowness * self.world.lag(0.5, 9), self._discover, node)

    def _is_excused(self, node: Node, pod: Pod) -> bool:
        """Whether the operator could not know better than to let a configuration load under a pod.

        Somebody took our taint off a node that had been switched already: its scheduler is quicker than any operator. And
        where a node has had its time it is opened with a warning that its plugin has not gone back: that keeps nobody
        else away, but our own replicas it must, by its marks; those of whole GPUs have none. A clock that jumps takes a node's
        time away.
        """
        late = self.world.now - node.switched_at > SETTINGS.nodes.convergence_seconds
        unmarked = pod.owner is None or names.CLASS_LABEL not in pod.selector
        return pod.let_in or (pod.owner is None and late) or (unmarked and self.world.clock_was_set)

    def _is_by_hand(self, node: Node) -> bool:
        """A hand on the label changes a node under whoever is there, also what it was just loading; the operator only notices."""
        return node.labels.get(CONFIG_LABEL) == "theirs"

    def _advertise(self, node: Node) -> None:
        """The kubelet reports what the plugin offers."""
        shared = node.loaded.mode is not SharingMode.EXCLUSIVE
        waits = node.loaded.mode is SharingMode.MPS and node.daemon_started is None
        count = node.gpus * node.loaded.engines_per_gpu - len(node.unhealthy)
        offer = {
            names.NVIDIA_GPU: 0 if shared else count,
            names.NVIDIA_SHARED_GPU: count if shared and not waits else 0,
        }
        if node.divided is not None:
            offer = {names.NVIDIA_GPU: node.gpus * node.divided.devices_per_gpu}
        offer = offer if node.plugin_up else dict.fromkeys(offer, 0)
        if offer != node.allocatable and self.world.nodes.get(node.name) is node:
            node.allocatable = offer
            self.world.node_changed(node)

    def _discover(self, node: Node) -> None:
        """Feature discovery writes what is loaded."""
        if node.divided is not None:
            return
        seen = {
            REPLICAS_LABEL: str(node.loaded.engines_per_gpu),
            STRATEGY_LABEL: STRATEGIES[node.loaded.mode],
            MPS_CAPABLE: str(node.loaded.mode is SharingMode.MPS).lower(),
        }
        if any(node.labels.get(name) != value for name, value in seen.items()):
            node.labels |= seen
            self.world.node_changed(node)

    def delete_plugin(self, node: Node) -> None:
        """Its pod ends, and its DaemonSet makes another where no taint is in its way."""
        if not node.plugin_up:
            return
        node.plugin_up, node.plugin_comes = False, False
        if node.changes:
            self.world.meets(Situation.PLUGIN_KEPT_AWAY)
        self._advertise(node)
        self.world.changed("DaemonPod", plugin_of(node.name))
        self.see_to_plugin(node)

    def see_to_plugin(self, node: Node) -> None:
        """The DaemonSet of the plugin, which does not tolerate our taint."""
        if node.plugin_up or node.plugin_comes or not node.driver_up:
            return
        taints = {taint.key for taint in node.taints if taint.effect == "NoSchedule"}
        if taints == {names.CHANGING_TAINT} and node.kept_away_since is None:
            node.kept_away_since = self.world.now
            self.world.at(MOST_KEPT_AWAY_SECONDS, self._expect_plugin, node, self.world.now)
        if not taints:
            node.kept_away_since, node.plugin_comes = None, True
            self.world.at(self.world.lag(1, 20), self._start_plugin, node)

    def _expect_plugin(self, node: Node, since: float) -> None:
        there = self.world.nodes.get(node.name) is node
        if there and node.kept_away_since == since and not self.world.clock_was_set:
            raise BrokenPromiseError(f"our taint keeps the device plugin of {node.name} away since {since:.0f}s")

    def _start_plugin(self, node: Node) -> None:
        if not node.plugin_up and self.world.nodes.get(node.name) is node:
            node.plugin_up, node.plugin_comes, node.plugin_version = True, False, self.world.version()
            self.world.tell("node", f"{node.name} runs its device plugin again")
            self.world.changed("DaemonPod", plugin_of(node.name))
            self._obey(node, again=True)

    def _see_to_daemon(self, node: Node) -> None:
        """The DaemonSet of the MPS daemon, which does not tolerate our taint."""
        wanted = node.labels.get(MPS_CAPABLE) == "true"
        if node.loaded.mode is not SharingMode.MPS and node.daemon_started is not None and not node.daemon_quits:
            node.daemon_quits = True
            self.world.at(self.world.lag(0.5, 30), self._end_daemon, node, node.daemon_started)
        closed = any(taint.effect == "NoSchedule" for taint in node.taints)
        due = wanted and node.daemon_started is None and not node.daemon_comes
        if due and not closed and "no-daemon" not in node.faults:
            node.daemon_comes = True
            self.world.at(self.world.lag(3, 15), self._start_daemon, node)

    def _end_daemon(self, node: Node, started: str) -> None:
        """It has waited for what was under way, and put the GPUs back into their compute mode."""
        node.daemon_quits = False
        if node.daemon_started == started:
            self._stop_daemon(node)

    def _start_daemon(self, node: Node) -> None:
        node.daemon_comes = False
        if node.labels.get(MPS_CAPABLE) == "true" and "no-daemon" not in node.faults:
            node.daemon_started, node.daemon_loaded = self.world.stamp(), node.loaded
            self.world.tell("node", f"{node.name} runs its MPS daemon")
            self.world.daemon_changed(node)
            self.world.at(self.world.lag(1, 30), self._advertise, node)

    def _stop_daemon(self, node: Node) -> None:
        node.daemon_started = None
        self.world.daemon_changed(node)
        self._see_to_daemon(node)

    def restart_daemon(self, node: Node) -> None:
        """It crashes and its engines with it. All come again: an engine that comes before the daemon runs without it."""
        if node.daemon_started is not None:
            for pod in self.world.on(node.name):
                if pod.phase == "Running":
                    self.world.meets(Situation.DAEMON_CRASHED)
                    self._restart(pod)
            self._stop_daemon(node)

    def report_xid(self, node: Node, gpu: int) -> None:
        """The driver tells of a fault."""
        if gpu not in node.unhealthy and self.world.nodes.get(node.name) is node:
            if node.changes:
                self.world.meets(Situation.GPU_UNHEALTHY)
            node.unhealthy.add(gpu)
            self._advertise(node)

    def restart_plugin(self, node: Node) -> None:
        """Somebody fixed it: it loads what the label names, under whoever is there by now."""
        text = node.projected.get(node.labels.get(CONFIG_LABEL) or "default")
        node.requested_config = node.labels.get(CONFIG_LABEL)
        if text is not None:
            self._load(node, text, node.requested_config)
        self._see_to_daemon(node)

    def _admit(self, pod: Pod) -> None:
        """The kubelet: devices are there, or the pod fails and is never tried again."""
        node = self.world.nodes.get(pod.node or "")
        if node is None or pod.phase != "Pending" or pod.deleting or self.world.pods.get(pod.key) is not pod:
            return
        refuses = self.world.meddled and self.world.happens(0.03)  # its devices are unhealthy for a moment
        for resource, count in pod.requests.items():
            there = [one for one in self.world.on(node.name) if one.phase == "Running"]
            taken = sum(one.requests.get(resource, 0) for one in there)
            if refuses or taken + count > node.allocatable.get(resource, 0):
                pod.phase, pod.failed_because = "Failed", Cause("UnexpectedAdmissionError", "no devices")
                if pod.owner is not None:
                    self.refused += [f"{self.world.now:.0f}s {pod.key} on {pod.node}"]
                    self.world.meets(Situation.REFUSED_BY_KUBELET)
                self.world.pod_changed(pod)
                return
        self._expect_right_daemon(node, pod)
        _expect_right_gpu(node, pod)
        pod.phase, pod.started, pod.device = "Running", self.world.stamp(), self._device(node)
        self.world.pod_changed(pod)
        self.world.at(self.world.lag(5, 60), self._become_ready, pod)
        if (job := self.world.jobs.get(pod.key)) is not None:
            self.world.at(self.world.lag(100, 400), self._end, job, pod)

    def _expect_right_daemon(self, node: Node, pod: Pod) -> None:
        """A daemon keeps the limits that it began with, and the GPUs' compute mode until it has ended."""
        right = node.daemon_started is None or node.daemon_loaded == node.loaded
        if right or self._is_by_hand(node) or self._is_excused(node, pod):
            return
        raise BrokenPromiseError(
            f"{pod.key} starts on {node.name} with {node.loaded.label}, whose MPS daemon has {node.daemon_loaded.label}"
        )

    def _device(self, node: Node) -> str:
        """The plugin would rather fill a GPU before it begins another; the kubelet may do otherwise."""
        taken = Counter(one.device for one in self.world.on(node.name))
        rest = {
            gpu: node.loaded.engines_per_gpu - taken[gpu] for n in range(node.gpus) if (gpu := f"GPU-{node.name}-{n}")
        }
        free = [gpu for gpu in rest if rest[gpu] > 0] or list(rest)
        return self.world.chance.choice(free) if self.world.happens(0.3) else min(free, key=rest.__getitem__)

    def _end(self, job: Job, pod: Pod) -> None:
        """All points are measured."""
        if self.world.pods.get(pod.key) is pod:
            pod.phase, pod.ready, job.finished = "Succeeded", False, True
            product = self.world.nodes[pod.node or ""].labels[PRODUCT_LABEL]
            pod.printed += f"{self.world.stamp()} {result_of(self.world, job, product)}\n"
            self.world.pod_changed(pod)
            self.world.made_changed("Job", job)

    def _restart(self, pod: Pod) -> None:
        """The kubelet: a container that ended starts again, where it is. Both are reported a moment later."""
        pod.started, pod.ready = None, False
        self.world.at(self.world.lag(0.1, 2), self._tell, pod)
        self.world.at(self.world.lag(0.5, 30), self._start_again, pod)

    def _start_again(self, pod: Pod) -> None:
        if self.world.pods.get(pod.key) is pod and not pod.deleting:
            pod.started = self.world.stamp()
            self.world.at(self.world.lag(0.1, 4), self._tell, pod)
            self.world.at(self.world.lag(5, 60), self._become_ready, pod)

    def _tell(self, pod: Pod) -> None:
        if self.world.pods.get(pod.key) is pod:
            self.world.pod_changed(pod)

    def _become_ready(self, pod: Pod) -> None:
        if self.world.pods.get(pod.key) is pod and pod.phase == "Running" and not pod.deleting:
            pod.ready, pod.ready_at = True, self.world.now
            self.world.tell("kubelet", f"{pod.key} answers on {pod.node}")
            self.world.pod_changed(pod)

    def _remove(self, pod: Pod) -> None:
        if self.world.pods.get(pod.key) is pod:
            self.world.pod_gone(pod)


def _expect_right_gpu(node: Node, pod: Pod) -> None:
    """No profile and no engine that wants a whole GPU has a part of one, and no engine another product than was measured."""
    is_ours = pod.owner is not None or pod.job is not None
    if is_ours and node.divided is not None:
        raise BrokenPromiseError(f"{pod.key} starts on {node.name}, whose GPUs are {node.divided.what}")
    if pod.measured_on not in {None, node.labels[PRODUCT_LABEL]}:
        raise BrokenPromiseError(
            f"{pod.key} starts on {node.labels[PRODUCT_LABEL]} of {node.name}, and was measured on {pod.measured_on}"
        )
