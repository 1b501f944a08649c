"""What must hold once the operator rests: everybody is served or told why not, and nothing of ours is left behind."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.planning.actions import Delete, Evict, PatchConfig, PatchNode, ScaleWorkload, SetReplicas, WriteStatus
from slm_operator.planning.deployment.gpu_spread import packs
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.reconcile.status_throttle import only_messages_differ

from .objects import CONFIG_LABEL, BrokenPromiseError
from .situations import Situation

if TYPE_CHECKING:
    from slm_operator.watch.records import Key

    from .made import Deployment
    from .objects import Node, Pod
    from .run import Cluster


def nothing_waits_unsaid(made: Cluster) -> None:
    """Every replica answers, or its deployment's condition says why not."""
    for key, record in made.world.deployments.items():
        said = {condition["type"]: condition for condition in record.status.get("conditions", ())}
        ready = said.get("Ready", {})
        answer = sum(engines_in(pod) for pod in made.world.pods.values() if pod.owner == key and pod.ready)
        workload = made.world.workloads.get(key)
        wanted = wanted_of(record)
        if ready.get("status") == "True" and answer < wanted:
            raise BrokenPromiseError(f"{key} is called ready with {answer} of {wanted}")
        settled = all(said.get(one, {}).get("status") == "True" for one in ("Profiled", "Allocated"))
        packed = record.spec["sharing"].get("partitioning") == "PackPod"  # it is the scheduler who says what it lacks
        if ready.get("status") != "True" and settled and not (packed and ready.get("reason") == "Unschedulable"):
            pods = [(str(p.key), p.node, p.phase) for p in made.world.pods.values() if p.owner == key]
            counts = workload.counts if workload is not None else None
            raise BrokenPromiseError(f"{key} has its slices and yet {ready.get('message')}: {counts}, {pods}")
        given = made.operator.assignments.get(key)
        if given is not None and given.changing and given.reason == "NodeChanging":
            raise BrokenPromiseError(f"{key} waits for a change that does not go on: {given}")


def engines_in(pod: Pod) -> int:
    """Engines that a replica's pod runs: of a pack, as many as its supervisor starts."""
    return _engines(pod.template)


@cache
def _engines(template: str) -> int:
    args: list[str] = json.loads(template)["spec"]["containers"][0]["args"]
    return int(args[args.index("--engines-per-gpu") + 1]) if args[0] == "serve" else 1


def wanted_of(one: Deployment) -> int:
    """Replicas that shall be there: the user's number, or one full pack, and then its scale says the same."""
    wanted: int | None = one.spec.get("replicas")
    if wanted is not None:
        return wanted
    pack: int = one.spec["sharing"].get("enginesPerGpu", 1)
    if one.own_replicas != pack:
        raise BrokenPromiseError(f"{one.key} has packs of {pack}, and its scale says {one.own_replicas}")
    return pack


def nothing_is_given_up_without_need(made: Cluster) -> None:
    """Where nobody meddled, every node becomes what it shall be and every replica finds its slice, however good an excuse were."""
    for node in made.world.nodes.values():
        failed = node.annotations.get(names.CHANGE_FAILED_ANNOTATION)
        if failed is not None and not made.world.meddled:
            raise BrokenPromiseError(f"{node.name} was rolled back, and nobody meddled: {failed}")
    if made.people.machines.refused and not made.world.meddled:
        raise BrokenPromiseError(f"refused by the kubelet, and nobody meddled: {made.people.machines.refused}")


def nobody_runs_without_mps(made: Cluster) -> None:
    """A replica that started before its node's MPS daemon runs without it, unseen by all but those who look.

    NB: where others of its deployment do not answer, its budget keeps it.
    """
    kept = {pod.owner for pod in made.world.pods.values() if not pod.ready}
    for pod in made.world.pods.values():
        node = made.world.nodes.get(pod.node or "")
        since = node.daemon_started if node is not None else None
        if pod.owner not in {None, *kept} and since is not None and pod.started is not None and pod.started < since:
            raise BrokenPromiseError(f"{pod.key} started {pod.started}, before the MPS daemon of {pod.node}: {since}")


def status_says_who_shares_a_gpu(made: Cluster) -> None:
    """What the operator would say now is what the kubelets did, and no GPU has more than its pack."""
    for key in made.world.deployments:
        seen = made.operator.gatherer.caches.deployments.get(key)
        _, pods = made.operator.gatherer.replicas(seen) if seen is not None else (None, ())
        in_one_pod = made.world.deployments[key].spec["sharing"].get("partitioning") == "PackPod"
        said = {(one["node"], one.get("gpuUUID")): one["engines"] for one in packs(pods)}
        true = Counter[tuple[str | None, str | None]]()
        for pod in made.world.pods.values():
            if pod.owner == key and pod.holds:
                true[pod.node, pod.device] += engines_in(pod)
        if said != true:
            raise BrokenPromiseError(f"{key} is said to run on {said}, and runs on {dict(true)}")
        most = max(
            (made.world.nodes[node].loaded.engines_per_gpu for node, _ in true if node in made.world.nodes), default=0
        )
        if max(true.values(), default=0) > most and not made.world.meddled and not in_one_pod:
            raise BrokenPromiseError(f"{key} has more on a GPU than a pack: {dict(true)}")
        if sum(count < most for count in true.values()) > 1:
            made.world.meets(Situation.PACK_SPLIT)


def nothing_is_left_to_do(made: Cluster) -> None:
    """Who looks at everything once more finds nothing to write but words: no wake-up was lost on the way here."""
    operator, world = made.operator, made.world
    if not operator.process.is_alive:
        return
    gatherer = operator.gatherer
    plans = {"the fleet": operator.plan_nodes(gatherer.fleet(), operator.settings, operator.now()).plan}
    for key in world.deployments:
        record = gatherer.caches.deployments.get(key)
        if record is None:
            raise BrokenPromiseError(f"{key} is not known")
        plans[str(key)] = plan_deployment(gatherer.deployment(record), operator.settings, operator.now())
    for about, plan in plans.items():
        for action in plan.actions:
            if isinstance(action, Evict) and _is_kept(made, action.pod):
                continue
            if isinstance(action, PatchNode | PatchConfig | Evict | SetReplicas | ScaleWorkload | Delete):
                raise BrokenPromiseError(f"{about} rests, and this is left: {action}")
            if isinstance(action, WriteStatus) and not only_messages_differ(
                action.status, world.deployments[action.key].status
            ):
                raise BrokenPromiseError(f"{about} rests, and its status is {world.deployments[action.key].status}")


def _is_kept(made: Cluster, pod: Key) -> bool:
    """Whether a budget keeps a pod: it is asked for again and again, and nothing comes of it."""
    true = made.world.pods.get(pod)
    return true is not None and true.owner is not None and true.ready and made.api.allowed(true.owner) < 1


def what_waits_to_be_measured_says_so(made: Cluster) -> None:
    """A profile ends, or its condition says that no GPU can be had."""
    for key, record in made.world.profiles.items():
        said = next((one for one in record.status.get("conditions", ()) if one["type"] == "Profiled"), {})
        ended = record.imported or record.status.get("phase") in {"Complete", "Failed"}
        if not ended and said.get("reason") not in {"WaitingForGPU", "GPUHeldByReplicas", "AwaitingRetry", "Unused"}:
            raise BrokenPromiseError(f"profile {key} neither ends nor says why: {said}, {made.world.pods.get(key)}")


def everything_is_as_before(made: Cluster) -> None:
    """No mark of ours on any node, and the configuration label that its owner has a right to find."""
    for node in made.world.nodes.values():
        left = marks_on(node)
        if left or node.labels.get(CONFIG_LABEL) != node.owed[CONFIG_LABEL]:
            raise BrokenPromiseError(
                f"{node.name} is not as before: {left}, {CONFIG_LABEL}={node.labels.get(CONFIG_LABEL)}, "
                f"not {node.owed[CONFIG_LABEL]}"
            )
    if made.world.config is not None and not made.api.promises.config_was_replaced:
        left = [key for key in made.world.config if key.startswith(names.CONFIG_KEY_PREFIX)]
        if left:
            raise BrokenPromiseError(f"keys {left} were not collected")


def marks_on(node: Node) -> list[str]:
    """What of ours is on a node, the owner's opt-in apart."""
    ours = [name for name in (*node.labels, *node.annotations) if name.startswith(names.GROUP)]
    ours += [name for name in names.KEEP_NODE_ANNOTATIONS if name in node.annotations]
    ours += [taint.key for taint in node.taints if taint.key.startswith(names.GROUP)]
    return [name for name in ours if name != names.OPT_IN_LABEL]
