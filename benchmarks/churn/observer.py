r"""What must hold while a cluster churns, judged from outside by watch events alone.

It knows the operator by what it promises (labels, a taint, a ConfigMap), not by its code: nothing of it is imported here. It
reads only what the API server tells everybody, and says two things: what must never have been (`broken`), and what has to be
fixed before the cluster is at rest (`unrest`).

    events of each kind --> see --> broken, at once
                             \----> held for DELAY_SECONDS --> judge --> broken

Each kind has a watch of its own, and one may be late. But all objects lie in one etcd, whose versions are one sequence: what
was so when a label changed is known as soon as the others have caught up. (True of a test bed; a cluster may keep its events
elsewhere, and only promises versions that compare within a kind.)
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MANAGED = "slm-operator.io/managed"
MARKS = "slm-operator.io/"
OPERATOR = "slm-operator"
SERVES = "slm-operator.io/deployment"
CONFIG = "nvidia.com/device-plugin.config"
DEVICES = "nvidia.com/gpu"
LEAVES = "benchmark/leaves"
"""Label of a foreign pod that its owner is about to delete: whoever is gone without it was thrown out."""
CHILDREN = ("Deployment", "Service", "PodDisruptionBudget")
DELAY_SECONDS = 5.0
STEADY_SECONDS = 3.0
"""How long a deployment has been Ready before its PodDisruptionBudget is held against anybody: that one's status lags too."""


@dataclass(slots=True)
class _Node:
    raw: Any
    before: Any = None
    """What it showed before it was first opted in; None: it never was, or has been from the beginning."""
    configs: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Pod:
    name: str
    labels: dict[str, str]
    devices: bool
    foreign: bool
    node: str = ""
    bound: int = 0
    ended: int | None = None


class _Turn(NamedTuple):
    """A deployment became Ready, or was disturbed: at a version of the cluster, and by the observer's clock."""

    version: int
    seen: float
    ready: bool


@dataclass(slots=True, kw_only=True)
class Observer:
    """`namespace` is where SLMDeployments live, `foreign` where somebody else's pods do."""

    namespace: str
    foreign: str
    clock: Callable[[], float]
    broken: list[str] = field(default_factory=list)
    judged: Counter[str] = field(default_factory=Counter)
    """How often each rule had something to judge: a rule that never had shows nothing."""
    _nodes: dict[str, _Node] = field(default_factory=dict)
    _losses: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Versions at which a node was lost, by its name: it may join again."""
    _pods: dict[str, _Pod] = field(default_factory=dict)
    _served: dict[str, Any] = field(default_factory=dict)
    _turns: dict[str, list[_Turn]] = field(default_factory=lambda: defaultdict(list))
    _children: dict[tuple[str, str], Any] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _held: list[tuple[float, Callable[[], str | None]]] = field(default_factory=list)

    def see(self, event: str, raw: Any) -> None:
        """Take an event: LISTED, ADDED, MODIFIED or DELETED."""
        gone = event == "DELETED"
        match raw["kind"]:
            case "Node":
                self._see_node(raw, gone=gone)
            case "Pod":
                self._see_pod(raw, gone=gone)
            case "ConfigMap":
                self._see_config(raw)
            case "SLMDeployment":
                self._see_served(raw, gone=gone)
            case _:
                self._see_child(raw, gone=gone)

    def judge(self) -> None:
        """Judge what was held long enough."""
        while self._held and self._held[0][0] <= self.clock():
            said = self._held.pop(0)[1]()
            self.broken += [said] if said else []

    def unrest(self) -> list[str]:
        """What must be fixed before the cluster is at rest."""
        return [*self._unready(), *self._misplaced(), *self._marked()]

    # Nodes: nothing is touched without being asked; a configuration changes only where no device is in use.

    def _see_node(self, raw: Any, *, gone: bool) -> None:
        name, version = raw["metadata"]["name"], _version(raw)
        if gone:
            del self._nodes[name]
            self._losses[name].append(version)
            for pod in self._pods.values():
                if pod.node == name and pod.ended is None:
                    self._disturbed(pod.labels.get(SERVES, ""), version)
            return
        first = name not in self._nodes
        node = self._nodes.setdefault(name, _Node(raw))
        opted_before, opted = MANAGED in _labels(node.raw), MANAGED in _labels(raw)
        if opted and not opted_before and node.before is None:  # lent again, it may not have been given back whole yet
            node.before = _shown(node.raw)
        node.raw = raw
        if not opted and node.before is None:
            if first:
                self.judged["a node that nobody lent"] += 1
            if any(one.get("manager") == OPERATOR for one in raw["metadata"].get("managedFields") or ()):
                self.broken.append(f"node {name} was touched, and nobody had lent it")
        config = _labels(raw).get(CONFIG, "")
        if not node.configs or node.configs[-1][1] != config:
            node.configs.append((version, config))
            if len(node.configs) > 1:
                self.judged["a configuration switched"] += 1
                self._later(lambda: self._in_use(name, version))

    def _in_use(self, node: str, version: int) -> str | None:
        held = [pod.name for pod in self._pods.values() if pod.node == node and pod.devices and _alive(pod, version)]
        return f"node {node} was switched at {version} under {', '.join(held)}" if held else None

    # Pods: of somebody else none is evicted or broken.

    def _see_pod(self, raw: Any, *, gone: bool) -> None:
        meta, version = raw["metadata"], _version(raw)
        if meta["uid"] not in self._pods:
            limits = [one.get("resources", {}).get("limits") or {} for one in raw["spec"]["containers"]]
            devices = any(name.startswith(DEVICES) for one in limits for name in one)
            foreign = meta["namespace"] == self.foreign
            self._pods[meta["uid"]] = _Pod(meta["name"], _labels(raw), devices, foreign)
            if foreign:
                self.judged["a foreign pod"] += 1
        pod = self._pods[meta["uid"]]
        pod.labels = _labels(raw)
        if not pod.node and raw["spec"].get("nodeName"):
            pod.node, pod.bound = raw["spec"]["nodeName"], version
        ended = gone or raw["status"].get("phase") in {"Succeeded", "Failed"}
        if ended and pod.ended is None:
            pod.ended = version
            if pod.foreign and LEAVES not in pod.labels:
                self._later(lambda: self._thrown_out(pod))

    def _thrown_out(self, pod: _Pod) -> str | None:
        ended = pod.ended or 0
        if any(pod.bound < lost < ended for lost in self._losses[pod.node]):
            return None
        return f"foreign pod {pod.name} was ended on node {pod.node}"

    # The plugin's ConfigMap: a key in use is neither edited nor removed.

    def _see_config(self, raw: Any) -> None:
        version, keys = _version(raw), dict(raw.get("data") or {})
        for key in [key for key, text in self._keys.items() if keys.get(key) != text]:
            self.judged["a key edited or removed"] += 1
            self._later(lambda key=key: self._key_in_use(key, version))  # type: ignore[misc]
        self._keys = keys

    def _key_in_use(self, key: str, version: int) -> str | None:
        users = [name for name, node in self._nodes.items() if _at(node.configs, version) == key]
        return f"key {key} was edited or removed at {version}, in use on {', '.join(users)}" if users else None

    # What is served: in a planned change never fewer replicas than the PodDisruptionBudget says.

    def _see_served(self, raw: Any, *, gone: bool) -> None:
        name, version = raw["metadata"]["name"], _version(raw)
        before = self._served.pop(name, None)
        if gone:
            self._disturbed(name, version)
            return
        self._served[name] = raw
        if before is None or before["metadata"]["generation"] != raw["metadata"]["generation"]:
            self._disturbed(name, version)
        elif _is_ready(raw) and not self._turns[name][-1].ready:
            self._turns[name].append(_Turn(version, self.clock(), ready=True))

    def _disturbed(self, name: str, version: int) -> None:
        if name:
            self._turns[name].append(_Turn(version, self.clock(), ready=False))

    def _see_child(self, raw: Any, *, gone: bool) -> None:
        key = raw["kind"], raw["metadata"]["name"]
        self._children.pop(key, None)
        if gone:
            return
        self._children[key] = raw
        status = raw.get("status") or {}
        if raw["kind"] == "PodDisruptionBudget" and status.get("currentHealthy", 0) < status.get("desiredHealthy", 0):
            version, now = _version(raw), self.clock()
            self._later(lambda: self._too_few(key[1], version, now, status))

    def _too_few(self, name: str, version: int, seen: float, status: Any) -> str | None:
        """NB: to be edited or to lose a node is no planned change; who was not Ready since has other reasons to be short."""
        self.judged["fewer replicas than a budget wants"] += 1
        last = next((turn for turn in reversed(self._turns[name]) if turn.version <= version), None)
        if last is None or not last.ready or last.seen > seen - STEADY_SECONDS:
            return None
        healthy, wanted = status["currentHealthy"], status["desiredHealthy"]
        return f"{name} had {healthy} of at least {wanted} replicas at {version}, and nobody had disturbed it"

    # At rest.

    def _unready(self) -> Iterator[str]:
        idle = next(self._idle(), None)
        for name, raw in self._served.items():
            reason = _ready(raw).get("reason")
            if _is_ready(raw) or (reason == "NoCapacity" and idle is None):
                continue
            yield f"{name} is not Ready ({reason})" + (f", and node {idle} is idle" if idle else "")

    def _idle(self) -> Iterator[str]:
        """Nodes that anybody may be given: lent, open, and no device in use. While there is one, nobody lacks capacity."""
        used = {pod.node for pod in self._pods.values() if pod.devices and pod.ended is None}
        for name, node in self._nodes.items():
            if MANAGED in _labels(node.raw) and not node.raw["spec"].get("taints") and name not in used:
                yield name

    def _misplaced(self) -> Iterator[str]:
        owners = {raw["metadata"]["uid"]: name for name, raw in self._served.items()}
        made: Counter[tuple[str, str]] = Counter()
        for (kind, name), raw in self._children.items():
            owner = next((one["uid"] for one in raw["metadata"].get("ownerReferences", ())), "")
            if owner in owners:
                made[kind, owners[owner]] += 1
            else:
                yield f"{kind} {name} is nobody's"
        for owner in owners.values():
            for kind in CHILDREN:
                if made[kind, owner] != 1:
                    yield f"{owner} has {made[kind, owner]} {kind}s"

    def _marked(self) -> Iterator[str]:
        for name, node in self._nodes.items():
            if any(taint["key"].startswith(MARKS) for taint in node.raw["spec"].get("taints") or ()):
                yield f"node {name} is closed"
            if MANAGED not in _labels(node.raw) and node.before is not None and _shown(node.raw) != node.before:
                yield f"node {name} is not as it was before it was lent"

    def _later(self, judgement: Callable[[], str | None]) -> None:
        self._held.append((self.clock() + DELAY_SECONDS, judgement))


def _version(raw: Any) -> int:
    return int(raw["metadata"]["resourceVersion"])


def _labels(raw: Any) -> dict[str, str]:
    return dict(raw["metadata"].get("labels") or {})


def _shown(node: Any) -> Any:
    """What of a node the operator might have changed: labels (its owner's opt-in left out), annotations, taints."""
    labels = {name: value for name, value in _labels(node).items() if name != MANAGED}
    taints = [one for one in node["spec"].get("taints") or () if not one["key"].startswith("node.kubernetes.io/")]
    return labels, dict(node["metadata"].get("annotations") or {}), taints


def _alive(pod: _Pod, version: int) -> bool:
    return pod.bound < version and (pod.ended is None or pod.ended > version)


def _at(history: list[tuple[int, str]], version: int) -> str | None:
    """What held at a version."""
    return next((value for since, value in reversed(history) if since <= version), None)


def _ready(raw: Any) -> Any:
    """Its condition Ready."""
    return next((one for one in (raw.get("status") or {}).get("conditions") or () if one["type"] == "Ready"), {})


def _is_ready(raw: Any) -> bool:
    observed = (raw.get("status") or {}).get("observedGeneration")
    return _ready(raw).get("status") == "True" and observed == raw["metadata"]["generation"]
