"""Users, who want this and that, and a hostile administrator, who does what administrators do at the worst moment."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json
from slm_operator.api import names
from slm_operator.watch.records import Cause, Key, Taint

from tests.builders import documents

from .made import Deployment, Made, Profile
from .objects import CONFIG_LABEL, OTHER_PRODUCT, PRODUCT, PRODUCT_LABEL, Node, Pod, daemon_of, plugin_of
from .situations import Situation
from .upgrading import Upgrades

if TYPE_CHECKING:
    from .controllers import Controllers
    from .divided import Division
    from .machines import Machines
    from .objects import Raw
    from .operator import Operator
    from .world import World

_SLICES: dict[str, Any] = {"partitioning": "NodeSlices"}
SHARING: tuple[dict[str, Any], ...] = (
    _SLICES | {"mode": "MPS", "enginesPerGpu": 2},
    _SLICES | {"mode": "MPS", "enginesPerGpu": 4},
    _SLICES | {"mode": "TimeSlicing", "enginesPerGpu": 2},
    {"mode": "TimeSlicing", "enginesPerGpu": 4, "tenancy": "Shared"},
    {"mode": "MPS", "enginesPerGpu": 4, "tenancy": "Shared"},
    _SLICES | {"mode": "Exclusive"},
)
PACKS: tuple[dict[str, Any], ...] = (
    {"partitioning": "PackPod", "mode": "MPS", "enginesPerGpu": 2},
    {"partitioning": "PackPod", "mode": "MPS", "enginesPerGpu": 4},
    {"partitioning": "PackPod", "mode": "Exclusive"},
)
WAYS = (*SHARING, *PACKS)
"""All that anybody may want, by place. NB: chance draws from the first, and each further row would be another history of all seeds."""
FORMER = (None, None, "default", "theirs-shared")
THEIRS = """version: v1
sharing:
  timeSlicing:
    renameByDefault: true
    resources: [{name: nvidia.com/gpu, replicas: 4}]
"""


ROOTED = ("default", "theirs")
"""Keys of the plugin's administrator that do not share GPUs."""


def with_root(key: str, edition: int = 0) -> str:
    """A configuration that tells where the driver is: an operator that forgets it leaves containers without one."""
    return f"version: v1\nflags: {{nvidiaDriverRoot: /run/{key}/{edition}}}\n"


@cache
def wish(name: str, sharing: int, replicas: int | None) -> Raw:
    """The spec of an SLMDeployment. The same object for the same wish."""
    spec: Raw = {
        "model": {"uri": "pvc://models/opt"},
        "sharing": WAYS[sharing],
        "profiling": {"profileRef": {"name": name}},
    }
    return spec | ({"replicas": replicas} if replicas is not None else {})


@cache
def question(sharing: int, replicas: int, input_tokens: int) -> Raw:
    """The spec of one that names no profile."""
    return {
        "model": {"uri": "pvc://models/opt"},
        "sharing": WAYS[sharing],
        "workload": {"inputTokens": input_tokens},
        "replicas": replicas,
    }


@cache
def imported(product: str = PRODUCT, *, in_one_pod: bool = False) -> Raw:
    """The spec of an SLMProfile that was measured elsewhere, on that product. `in_one_pod`: with what tells the KV bytes of engines."""
    found = documents.published("opt-1.3b") if in_one_pod else documents.imported()
    measured = replace(found, gpu=replace(found.gpu, product=product))
    return {"model": {"uri": "pvc://models/opt"}, "measurements": to_json(measured)}


@dataclass(slots=True)
class People:
    """Everybody who is not a controller."""

    world: World
    operator: Operator
    controllers: Controllers
    machines: Machines
    wishes: dict[str, list[tuple[int, int | None]]] = field(default_factory=dict)
    """Ways to share and replicas that were wanted, by deployment."""
    measured_on: dict[str, str] = field(default_factory=dict)
    """The product that each deployment's profile was measured on, elsewhere."""
    left_at: float = 0.0
    """When the last of their own pods ended: replicas that had waited for its GPU only begin to start then."""

    # -- users

    def wants(self, name: str, sharing: int, replicas: int | None, namespace: str = "team") -> None:
        """Apply an SLMDeployment.

        Without a number of replicas the field is left out, and what the operator keeps there stays.
        """
        self.wishes.setdefault(name, []).append((sharing, replicas))
        key = Key(namespace, name)
        self.world.tell("user", f"wants {'a pack' if replicas is None else replicas} x {name}, {WAYS[sharing]}")
        if key not in self.world.deployments and key not in self.world.profiles:
            self._applies_profile(key, imported(self._measured_on(name), in_one_pod=WAYS[sharing] in PACKS))
        self._applies(key, wish(name, sharing, replicas))

    def asks(self, name: str, sharing: int, replicas: int, input_tokens: int) -> None:
        """Apply an SLMDeployment for which the operator has to have something measured."""
        self.world.tell("user", f"asks for {replicas} x {name}, {WAYS[sharing]}, {input_tokens} tokens of input")
        self._applies(Key("team", name), question(sharing, replicas, input_tokens))

    def _applies(self, key: Key, spec: Raw) -> None:
        known = self.world.deployments.get(key)
        if known is None:
            self.world.deployment_changed(Deployment(key, f"uid-{key.name}-{self.world.version()}", spec))
            return
        known.spec, known.generation = spec, known.generation + 1
        if "replicas" in spec:
            known.own_replicas = None
        self.world.deployment_changed(known)

    def measures(self, name: str, namespace: str = "team", product: str | None = None) -> None:
        """Apply an SLMProfile that nobody imports."""
        self.world.tell("user", f"wants {name} to be measured")
        spec: Raw = {"model": {"uri": "pvc://models/opt"}, "gpu": {"product": product} if product is not None else {}}
        self._applies_profile(Key(namespace, name), spec)

    def _applies_profile(self, key: Key, spec: Raw) -> None:
        uid = f"uid-profile-{key.name}-{self.world.version()}"
        profile = Profile(key=key, uid=uid, manifest={"metadata": {}, "spec": spec}, created=self.world.stamp())
        self.world.profiles[key] = profile
        self.world.made_changed(names.PROFILE_KIND, profile)

    def loses_profile(self, name: str, namespace: str = "team") -> None:
        """What it would be advised from is gone, or is not measured yet."""
        self.world.tell("user", f"deletes the profile of {name}")
        self.world.made_gone(names.PROFILE_KIND, Key(namespace, name))

    def has_measured(self, name: str, namespace: str = "team") -> None:
        """It is there again."""
        self.world.tell("user", f"has {name} measured")
        self._applies_profile(Key(namespace, name), imported(self._measured_on(name)))

    def wants_as_before(self, name: str) -> None:
        """Back to the wish before the last one."""
        self.wants(name, *self.wishes[name][-2:][0])

    def wants_no_more(self, name: str, namespace: str = "team") -> None:
        """Delete an SLMDeployment."""
        self.world.tell("user", f"deletes {name}")
        if any(node.changes for node in self.world.nodes.values()):
            self.world.meets(Situation.DELETED_IN_A_CHANGE)
        key = Key(namespace, name)
        del self.world.deployments[key]
        self.world.version()
        self.world.changed(names.DEPLOYMENT_KIND, key)

    def _measured_on(self, name: str) -> str:
        """What was measured for somebody, always on the same product: of another one where there is such a node."""
        there = {one.labels[PRODUCT_LABEL] for one in self.world.nodes.values()}
        if name not in self.measured_on:
            is_other = OTHER_PRODUCT in there and self.world.happens(0.5)
            self.measured_on[name] = OTHER_PRODUCT if is_other else PRODUCT
        return self.measured_on[name]

    # -- administrators

    def adds_node(
        self,
        name: str,
        *,
        gpus: int = 1,
        opted_in: bool = True,
        former: str | None = None,
        kind: tuple[str, Division | None] = (PRODUCT, None),
    ) -> Node:
        """A GPU node joins. `kind`: its product, and how somebody else divides its GPUs."""
        product, divided = kind
        node = Node(name=name, gpus=gpus, uid=f"uid-{name}-{self.world.version()}", divided=divided)
        node.labels = {
            "kubernetes.io/hostname": name,
            PRODUCT_LABEL: product,
            "nvidia.com/gpu.count": str(gpus),
            "nvidia.com/gpu.memory": "81920",
            "nvidia.com/gpu.compute.major": "9",
        }
        if opted_in:
            node.labels[names.OPT_IN_LABEL] = "true"
        if former is not None:
            node.labels[CONFIG_LABEL] = former
        if divided is not None:
            node.labels |= divided.shown(product, gpus)
        self.world.nodes[name] = node
        self.machines.boot(node)
        node.owed = dict.fromkeys((CONFIG_LABEL, names.OPT_IN_LABEL)) | dict(node.labels)
        self.world.node_changed(node)
        self.world.changed("DaemonPod", plugin_of(name))
        return node

    def runs_pod(self, name: str, seconds: float, resource: str = names.NVIDIA_GPU) -> None:
        """Somebody's own GPU pod, for a while."""
        pod = Pod(key=Key("others", name), uid=f"uid-{name}", requests={resource: 1})
        self.world.tell("user", f"runs {pod.key}")
        self.world.pods[pod.key] = pod
        self.world.pod_changed(pod)
        self.world.at(seconds, self._ends, pod)

    def _ends(self, pod: Pod) -> None:
        if pod.key in self.world.pods:
            self.world.tell("user", f"{pod.key} ends")
            self.left_at = self.world.now
            self.world.pod_gone(pod)

    def loses_node(self, node: Node) -> None:
        """The machine is gone, and its pods with it."""
        self.world.tell("admin", f"loses {node.name}")
        if node.changes:
            self.world.meets(Situation.NODE_LOST_IN_A_CHANGE)
        del self.world.nodes[node.name]
        for pod in [one for one in self.world.pods.values() if one.node == node.name]:
            self.world.pod_gone(pod)
            if (job := self.world.jobs.get(pod.key)) is not None and not job.finished:
                self.world.meets(Situation.MEASUREMENT_LOST)
                job.finished, job.failed_because = True, Cause("BackoffLimitExceeded")
                self.world.made_changed("Job", job)
        self.world.version()
        self.world.changed("Node", Key("", node.name))
        for part in (plugin_of(node.name), daemon_of(node.name)):
            self.world.changed("DaemonPod", part)

    def meddles(self, count: int) -> None:
        """One hostile act."""
        acts = (
            self._cordons,
            self._relabels,
            self._opts_out,
            self._untaints,
            self._untaints,  # of interest on a node that changes only
            self._taints,
            self._replaces_node,
            self._node_not_ready,
            self._breaks_config_map,
            self._edits_configuration,
            self._foreign_pod,
            self._foreign_slice_pod,
            self._breaks_plugin,
            self._deletes_plugin_pod,
            self._upgrades_driver,
            self._restarts_daemon,
            self._sets_clock,
        )
        nodes = list(self.world.nodes.values())
        changing = [node for node in nodes if node.changes]
        act = self._replaces_node if changing and self.world.happens(0.1) else self.world.chance.choice(acts)
        node = self.world.chance.choice(changing if changing and self.world.happens(0.5) else nodes)
        self.world.meddled = True
        self.world.tell("admin", f"{act.__name__.strip('_').replace('_', ' ')}: {node.name}")
        act(node, count)

    def takes_name(self, name: str) -> None:
        """Somebody has a Service of a name that a deployment's would have, for a while; maybe a copy of one, our label and all."""
        self.world.meddled = True
        key, spec = Key("team", name), {"ports": [{"port": 80}]}
        metadata = {"labels": {names.DEPLOYMENT_LABEL: name}} if self.world.happens(0.5) else {}
        theirs = Made(key=key, uid=f"uid-theirs-{name}", manifest={"metadata": metadata, "spec": {}}, others=spec)
        self.world.services[key] = theirs
        self.world.made_changed("Service", theirs)
        self.world.at(self.world.lag(50, 400), self._gives_name_back, theirs)

    def _gives_name_back(self, theirs: Made) -> None:
        if self.world.services.get(theirs.key) is theirs:
            self.world.made_gone("Service", theirs.key)

    def loses_node_that_measures(self) -> None:
        """Of the nodes, if there is one; another takes its name."""
        homes = {pod.node for pod in self.world.pods.values() if pod.job is not None and pod.holds}
        for name in sorted(name for name in homes if name is not None):
            self.world.meddled = True
            self._replaces_node(self.world.nodes[name], 0)

    def _cordons(self, node: Node, _count: int) -> None:
        node.unschedulable = True
        self.world.node_changed(node)
        self.world.at(self.world.lag(10, 400), partial(self._repairs, node, unschedulable=False))

    def _node_not_ready(self, node: Node, _count: int) -> None:
        node.ready = False
        self.world.node_changed(node)
        self.world.at(self.world.lag(10, 400), partial(self._repairs, node, ready=True))

    def _repairs(self, node: Node, **fields: bool) -> None:
        for name, value in fields.items():
            setattr(node, name, value)
        if self.world.nodes.get(node.name) is node:
            self.world.node_changed(node)

    def _relabels(self, node: Node, _count: int) -> None:
        """NB: a hand on the label breaks running pods all by itself; ours is only to notice."""
        node.labels[CONFIG_LABEL] = node.owed[CONFIG_LABEL] = "theirs"
        self.world.node_changed(node)

    def _opts_out(self, node: Node, _count: int) -> None:
        if node.changes:
            self.world.meets(Situation.OPTED_OUT_IN_A_CHANGE)
        node.labels.pop(names.OPT_IN_LABEL, None)
        self.world.node_changed(node)
        self.world.at(self.world.lag(100, 900), self._opts_in, node)

    def _opts_in(self, node: Node) -> None:
        if self.world.nodes.get(node.name) is node and node.owed[names.OPT_IN_LABEL] == "true":
            node.labels[names.OPT_IN_LABEL] = "true"
            self.world.node_changed(node)

    def _untaints(self, node: Node, _count: int) -> None:
        """NB: whoever lands before we close it again may be hurt by what is being loaded; ours is only to close it."""
        if any(taint.key == names.CHANGING_TAINT for taint in node.taints):
            node.opened_by_hand = True
            self.world.meets(Situation.OPENED_BY_HAND)
        node.taints = tuple(taint for taint in node.taints if taint.key != names.CHANGING_TAINT)
        self.world.node_changed(node)

    def _taints(self, node: Node, count: int) -> None:
        node.taints = (*node.taints, Taint(key=f"theirs-{count}"))
        self.world.node_changed(node)
        self.world.at(self.world.lag(10, 300), self._takes_taint_off, node, f"theirs-{count}")

    def _takes_taint_off(self, node: Node, key: str) -> None:
        node.taints = tuple(taint for taint in node.taints if taint.key != key)
        if self.world.nodes.get(node.name) is node:
            self.world.node_changed(node)

    def _replaces_node(self, node: Node, _count: int) -> None:
        self.loses_node(node)
        product = node.labels[PRODUCT_LABEL].removesuffix(node.divided.suffix if node.divided is not None else "")
        again = partial(self.adds_node, node.name, gpus=node.gpus, kind=(product, node.divided))
        self.world.at(self.world.lag(5, 200), again)

    def _breaks_config_map(self, _node: Node, _count: int) -> None:
        """Deleted, or put back to what a chart says, without our keys."""
        self.operator.api.promises.config_was_replaced = True
        if any(key.startswith(names.CONFIG_KEY_PREFIX) for key in self.world.config or {}):
            self.world.meets(Situation.KEYS_LOST)
        kept = {key: text for key, text in (self.world.config or {}).items() if not key.startswith("slm-")}
        self.world.config = None if self.world.happens(0.5) else kept
        self.world.config_annotations = {}
        self.world.config_changed()
        if self.world.config is None:
            self.world.at(self.world.lag(10, 300), self._restores_config_map, kept)

    def _edits_configuration(self, _node: Node, count: int) -> None:
        """The driver has another root; or a slip of the pen, until it is seen."""
        if self.world.config is None:
            return
        if any(
            node.labels.get(CONFIG_LABEL, "").startswith(names.CONFIG_KEY_PREFIX) for node in self.world.nodes.values()
        ):
            self.world.meets(Situation.BASE_EDITED)
        right = {key: with_root(key, count) for key in ROOTED}
        if self.world.happens(0.2):
            self._writes_configurations(dict.fromkeys(ROOTED, "{"))
            self.world.at(self.world.lag(10, 300), self._writes_configurations, right)
        else:
            self._writes_configurations(right)

    def _writes_configurations(self, texts: dict[str, str]) -> None:
        if self.world.config is not None:
            self.world.config |= texts
            self.world.config_changed()

    def _restores_config_map(self, kept: dict[str, str]) -> None:
        if self.world.config is None:
            self.world.config = kept
            self.world.config_changed()

    def _foreign_pod(self, _node: Node, count: int) -> None:
        self.runs_pod(f"job-{count}", self.world.lag(20, 600))

    def _foreign_slice_pod(self, _node: Node, count: int) -> None:
        self.runs_pod(f"slice-{count}", self.world.lag(20, 600), names.NVIDIA_SHARED_GPU)

    def _breaks_plugin(self, node: Node, _count: int) -> None:
        fault = self.world.chance.choice(("stuck", "no-daemon"))
        node.faults.add(fault)
        if self.world.happens(0.8):  # else it is never fixed
            self.world.at(self.world.lag(10, 400), self._repairs_plugin, node, fault)

    def _deletes_plugin_pod(self, node: Node, _count: int) -> None:
        self.machines.delete_plugin(node)

    def _upgrades_driver(self, node: Node, _count: int) -> None:
        Upgrades(self.world, self.machines).begin(node)

    def sells_broken(self, node: Node) -> None:
        """A plugin that will never load another configuration, or a daemon that never comes."""
        node.faults.add(self.world.chance.choice(("stuck", "no-daemon")))
        self.world.meddled = True
        self.world.tell("admin", f"adds {node.name}, which is broken: {node.faults}")

    def sells_weak_gpu(self, node: Node) -> None:
        """One that fails again and again, for a while or for good."""
        self.world.tell("admin", f"adds {node.name}, which has a weak GPU")
        self._fails(node, self.world.chance.randrange(node.gpus), self.world.lag(500, 20_000))

    def _fails(self, node: Node, gpu: int, until: float) -> None:
        if self.world.now < until:
            self.machines.report_xid(node, gpu)
            self.world.at(self.world.lag(20, 300), self._fails, node, gpu, until)
        elif self.world.happens(0.5) and self.world.nodes.get(node.name) is node:
            self.machines.restart_plugin(node)

    def _repairs_plugin(self, node: Node, fault: str) -> None:
        node.faults.discard(fault)
        if self.world.nodes.get(node.name) is node:
            self.machines.restart_plugin(node)

    def _restarts_daemon(self, node: Node, _count: int) -> None:
        self.machines.restart_daemon(node)

    def crashes_daemons(self) -> None:
        """Every MPS daemon that runs."""
        self.world.meddled = True
        for node in self.world.nodes.values():
            self.machines.restart_daemon(node)

    def _sets_clock(self, _node: Node, _count: int) -> None:
        self.world.clock_was_set = True
        self.operator.sets_clock(self.world.chance.uniform(-1800, 1800))
