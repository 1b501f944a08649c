"""Kubernetes' own controllers, as small as they can be and still do what matters here: scheduler, Deployments, garbage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.watch.records import Key

from tests.node_selector import any_holds, required_terms

from .objects import PRODUCT_LABEL, Pod
from .situations import Situation

if TYPE_CHECKING:
    from collections.abc import Callable

    from .made import Job, Workload
    from .objects import Node
    from .world import World


@dataclass(slots=True)
class Controllers:
    """They look at the whole state some time after anything changed, and do what is to be done."""

    world: World
    on_stop: list[Callable[[Pod], None]] = field(default_factory=list)
    """Who hears of each pod that a roll is about to stop."""
    _scheduling: bool = False
    _rolling: bool = False
    _names: int = 0

    def __post_init__(self) -> None:
        self.world.watchers.append(self.changed)

    def changed(self, kind: str, key: Key) -> None:
        """Something changed that they may react to."""
        if not self._scheduling and kind in {"Node", "Pod"}:
            self._scheduling = True
            self.world.at(self.world.lag(0.1, 1), self._schedule)
        if kind in {names.DEPLOYMENT_KIND, "Deployment", "Service", "PodDisruptionBudget"} and self._is_orphan(
            kind, key
        ):
            self.world.at(self.world.lag(0.1, 10), self.collect)
        if not self._rolling and kind in {"Pod", "Deployment"}:
            self._rolling = True
            self.world.at(self.world.lag(0.1, 2), self._roll)

    def _is_orphan(self, kind: str, key: Key) -> bool:
        if kind == names.DEPLOYMENT_KIND:
            return key not in self.world.deployments
        made, owner = self.world.made(kind).get(key), self.world.deployments.get(key)
        return made is not None and (owner is None or owner.uid not in made.owners)

    def _schedule(self) -> None:
        self._scheduling = False
        for pod in list(self.world.pods.values()):
            if pod.node is None and pod.assumed is None and not pod.deleting and pod.phase == "Pending":
                fits = [node for node in self.world.nodes.values() if self._fits(pod, node)]
                if fits:
                    most = max(pod.wishes.get(node.name, 0) for node in fits)
                    best = [node for node in fits if pod.wishes.get(node.name, 0) == most]
                    chosen = best[0] if self.world.steady else self.world.chance.choice(best)
                    pod.assumed = chosen.name
                    self._count_passed_over(pod, fits)
                    pod.let_in = chosen.opened_by_hand
                    # NB: what was decided is bound a moment later, whatever happened to the node meanwhile.
                    self.world.at(self.world.lag(0.1, 2), self._bind, pod)
                elif not pod.tried:
                    pod.tried = True
                    self.world.pod_changed(pod)

    def _count_passed_over(self, pod: Pod, fits: list[Node]) -> None:
        """What it could have had, had it asked for less."""
        if pod.owner is None and pod.job is None:
            return
        for node in self.world.nodes.values():
            if node in fits or not self._has_room(pod, node):
                continue
            if node.divided is not None:
                self.world.meets(Situation.PART_PASSED_OVER)
            elif node.labels[PRODUCT_LABEL] != pod.selector.get(PRODUCT_LABEL):
                self.world.meets(Situation.PRODUCT_PASSED_OVER)

    def _fits(self, pod: Pod, node: Node) -> bool:
        if not node.ready or node.unschedulable or any(taint.effect == "NoSchedule" for taint in node.taints):
            return False
        if any(node.labels.get(name) != value for name, value in pod.selector.items()):
            return False
        if not self._has_room(pod, node):
            return False
        return any_holds(pod.terms, node.labels)

    def _has_room(self, pod: Pod, node: Node) -> bool:
        there = [one for one in self.world.pods.values() if node.name in {one.node, one.assumed} and one is not pod]
        for resource, count in pod.requests.items():
            taken = sum(one.requests.get(resource, 0) for one in there if one.phase not in {"Succeeded", "Failed"})
            if taken + count > node.allocatable.get(resource, 0):
                return False
        return True

    def _bind(self, pod: Pod) -> None:
        if self.world.pods.get(pod.key) is not pod or pod.deleting or pod.assumed not in self.world.nodes:
            pod.assumed = None
            return
        pod.node, pod.assumed = pod.assumed, None
        self.world.pod_changed(pod)

    def _roll(self) -> None:
        self._rolling = False
        for workload in list(self.world.workloads.values()):
            self._roll_one(workload)

    def _roll_one(self, workload: Workload) -> None:
        """RollingUpdate with maxSurge s and maxUnavailable 1 - s, as the Deployment controller does it."""
        alive = [
            pod
            for pod in self.world.pods.values()
            if pod.owner == workload.key and not pod.deleting and pod.phase != "Failed"
        ]
        new = [pod for pod in alive if pod.template == workload.template]
        old = [pod for pod in alive if pod.template != workload.template]
        least = workload.replicas - 1 + workload.surge
        spare = len(alive) - least - sum(not pod.ready for pod in new)
        for pod in sorted(old, key=lambda pod: (pod.ready, pod.key)):
            available = sum(one.ready for one in alive if not one.deleting)
            if spare <= 0 or (pod.ready and available <= least):
                break
            self._stop(pod)
            spare -= 1
        for pod in sorted(new, key=lambda pod: (pod.ready, pod.node is not None, pod.key))[
            : max(0, len(new) - workload.replicas)
        ]:
            self._stop(pod)
        left = sum(not pod.deleting for pod in alive)
        missing = workload.replicas - sum(not pod.deleting for pod in new)
        for _ in range(min(missing, workload.replicas + workload.surge - left)):
            self._create(workload)
        self._count(workload)

    def _count(self, workload: Workload) -> None:
        pods = [pod for pod in self.world.pods.values() if pod.owner == workload.key and pod.phase != "Failed"]
        updated = sum(pod.template == workload.template for pod in pods)
        counts = (len(pods), updated, sum(pod.ready for pod in pods))
        if (workload.observed, workload.counts) != (workload.generation, counts):
            workload.observed, workload.counts = workload.generation, counts
            self.world.made_changed("Deployment", workload)

    def _create(self, workload: Workload) -> None:
        namespace = workload.key.namespace
        if sum(pod.key.namespace == namespace for pod in self.world.pods.values()) >= self.world.quotas.get(
            namespace, 10_000
        ):
            return
        self._names += 1
        pod = Pod(
            key=Key(workload.key.namespace, f"{workload.key.name}-{self._names}"),
            uid=f"uid-{workload.key.name}-{self._names}",
            requests=dict(workload.requests),
            labels=dict(workload.manifest["spec"]["template"]["metadata"]["labels"]),
            selector=dict(workload.body["nodeSelector"]),
            terms=required_terms(workload.body),
            measured_on=workload.measured_on,
            template=workload.template,
            owner=workload.key,
        )
        self.world.pods[pod.key] = pod
        self.world.pod_changed(pod)

    def _stop(self, pod: Pod) -> None:
        for hears in self.on_stop:
            hears(pod)
        self.world.tell("rollout", f"stops {pod.key}, {'which answers' if pod.ready else 'which does not answer'}")
        self.delete(pod)

    def delete(self, pod: Pod) -> None:
        """Graceful deletion."""
        if not pod.deleting:
            pod.deleting = True
            pod.ready = False
            self.world.pod_changed(pod)

    def measures(self, job: Job) -> None:
        """The Job controller: the pod of a Job that was made."""
        template = job.manifest["spec"]["template"]
        affinity = template["spec"].get("affinity", {}).get("nodeAffinity", {})
        wishes = {
            host: one["weight"]
            for one in affinity.get("preferredDuringSchedulingIgnoredDuringExecution", ())
            for host in one["preference"]["matchExpressions"][0]["values"]
        }
        if PRODUCT_LABEL in template["spec"]["nodeSelector"] and self._has_several_products():
            self.world.meets(Situation.PRODUCT_CHOSEN)
        pod = Pod(
            key=job.key,
            uid=job.uid,
            requests={names.NVIDIA_GPU: 1},
            labels=template["metadata"]["labels"],
            selector=template["spec"]["nodeSelector"],
            terms=required_terms(template["spec"]),
            wishes=wishes,
            job=job.uid,
        )
        self.world.pods[pod.key] = pod
        self.world.pod_changed(pod)

    def _has_several_products(self) -> bool:
        return len({one.labels[PRODUCT_LABEL] for one in self.world.nodes.values() if one.divided is None}) > 1

    def collect(self) -> None:
        """The garbage collector: what has no owner left, and what came after its owner had gone."""
        living = {one.uid for one in self.world.deployments.values()}
        for kind in ("Deployment", "Service", "PodDisruptionBudget"):
            for made in list(self.world.made(kind).values()):
                if made.owners and not made.owners & living:
                    self.world.made_gone(kind, made.key)
        for pod in list(self.world.pods.values()):
            if pod.owner is not None and pod.owner not in self.world.workloads:
                self.delete(pod)
