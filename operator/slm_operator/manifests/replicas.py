"""The Deployment of engine replicas, its Service and its PDB.

The pod template depends on spec and advice alone: an upgrade of the operator, a label, or a status must never restart
an engine. tests/golden/manifests pins it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import engine_of
from slm_core.pack_pod import PRE_STOP_SECONDS
from slm_core.units import GIB

from slm_operator.api import names
from slm_operator.digest import digest
from slm_operator.manifests import engine as engines
from slm_operator.manifests.defaulted import in_pod
from slm_operator.manifests.metadata import Manifest, labels, of_deployment, selector_labels, serves_value
from slm_operator.manifests.node_affinity import required
from slm_operator.manifests.overlay import merge
from slm_operator.manifests.pack import pack_spec, pack_terms, with_pack_resources
from slm_operator.manifests.pulling import pulled_with
from slm_operator.manifests.resources import resources
from slm_operator.manifests.served import ServedPack
from slm_operator.partitioning import partitioning_of
from slm_operator.partitioning.base import ANYBODY, nodes_allowed
from slm_operator.partitioning.node_terms import product_terms
from slm_operator.partitioning.whole_gpus import ONLY_WHOLE, WHOLE_GPUS

if TYPE_CHECKING:
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.manifests.engine import Serving
    from slm_operator.manifests.served import PackMeans, Served
    from slm_operator.partitioning.node_terms import Term
    from slm_operator.watch.records import DeploymentRecord, Key

HUNG_SECONDS = 300
"""How long an engine may answer no probe before it is taken for hung. One whose core dies ends by itself at once, so
liveness is for a process that hangs, and must never end one that is only busy: that would cut off all it serves."""
ROLL_IN_PLACE = {"maxSurge": 0, "maxUnavailable": 1}
ROLL_SURGING = {"maxSurge": 1, "maxUnavailable": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """Which nodes a pod may be on, beside what spec selects."""

    opt_in_label: str
    """Label of the opted-in nodes: every replica selects it, whatever else is said of its nodes."""
    product: str | None = None
    """Of their GPUs; None: any."""
    bound: bool = True
    """Whether one that wants a whole GPU is kept off parts. Not what an earlier version made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """How many pods, on what evidence, on which nodes, and whether there is room beside them."""

    count: int
    served: Served
    """The evidence in short."""
    opt_in_label: str
    spare_slot: bool = False
    """A slice is free for one more replica than `count`."""

    @property
    def nodes(self) -> Nodes:
        """Where they may be."""
        bound = self.served.bound is not None
        return Nodes(opt_in_label=self.opt_in_label, product=self.served.product, bound=bound)


def replicas(deployment: DeploymentRecord, spec: SLMDeploymentSpec, serving: Serving, fleet: Fleet) -> Manifest:
    """The apps/v1 Deployment.

    NB: the profile is named on the Deployment and not on its pods. The Deployment controller copies the annotation to the
    ReplicaSet, so each replica's is found; on the pods it would restart engines whose new profile advises the same.
    """
    key = deployment.meta.key
    head = of_deployment("apps/v1", "Deployment", deployment, "replica")
    head["metadata"]["annotations"] = {
        names.PROFILE_LABEL: fleet.served.profile,
        names.SERVED_ANNOTATION: fleet.served.text(),
        "kubernetes.io/change-cause": change_cause(serving, fleet.served.profile),
    }
    return head | {
        "spec": {
            "replicas": fleet.count,
            "selector": {"matchLabels": selector_labels(key)},
            # NB: where all slices are taken a surged pod could never be scheduled: one goes before one comes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": ROLL_SURGING if fleet.spare_slot else ROLL_IN_PLACE},
            "progressDeadlineSeconds": engines.START_SECONDS + 300,
            "revisionHistoryLimit": 5,
            "template": pod_template(deployment, spec, serving, fleet.nodes, _means(fleet.served)),
        }
    }


def pod_template(
    deployment: DeploymentRecord,
    spec: SLMDeploymentSpec,
    serving: Serving,
    nodes: Nodes,
    means: PackMeans | None = None,
) -> dict[str, Any]:
    """The pod, with the user's overlay merged in. `means`: of one that any node may have, with one engine or a pack."""
    key = deployment.meta.key
    served_name = spec.model.name or key.name
    packed = means is not None and serving.engines_per_gpu > 1
    annotations, own = (
        pack_spec(spec, serving, served_name, means)
        if means is not None and packed
        else _engine_spec(spec, serving, served_name)
    )
    template: dict[str, Any] = {
        "metadata": {
            "labels": labels(key, "replica") | ({names.ENGINES_LABEL: str(serving.engines_per_gpu)} if packed else {}),
            "annotations": {names.ADVICE_ANNOTATION: advice_digest(serving)} | annotations,
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # a Service named vllm would set VLLM_PORT, which vLLM reads as its own
            "securityContext": engines.pod_security(),
            "nodeSelector": node_selector(deployment, spec, serving, nodes),
            "tolerations": [toleration.given() for toleration in spec.accelerator.tolerations],
            "topologySpreadConstraints": [_spread(key)],
        }
        | own,
    }
    if deployment.defaults is not None:
        template = in_pod(template, deployment.defaults.values)
    merged: dict[str, Any] = merge(template, spec.pod_template or {})
    if means is not None and packed:
        merged = pulled_with(with_pack_resources(merged, spec, serving), means.pull_secrets)
    terms = pack_terms(spec, serving, means) if means is not None else _terms(spec, serving, nodes)
    return merged | {"spec": required(merged["spec"], terms)} if terms else merged


def _terms(spec: SLMDeploymentSpec, serving: Serving, nodes: Nodes) -> tuple[Term, ...]:
    """Terms of which the node of an engine alone in its pod must meet one; none: the labels that it selects say all."""
    if partitioning_of(serving.slice_class) is WHOLE_GPUS:
        return ONLY_WHOLE if nodes.bound else ()
    return () if nodes.product is None or spec.accelerator.product is not None else product_terms(nodes.product)


def _engine_spec(spec: SLMDeploymentSpec, serving: Serving, served_name: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Annotations of a pod with one engine, and what of its spec is the engine's."""
    partitioning = partitioning_of(serving.slice_class)
    own_memory = serving.sharing_mode not in partitioning.mounts_shared_memory
    volumes, mounts = engines.volumes(spec.model, shared_memory=own_memory)
    health = engine_of(spec.engine.command).paths.health
    return {}, {
        "terminationGracePeriodSeconds": PRE_STOP_SECONDS + engines.SHUTDOWN_SECONDS + 30,
        "containers": [
            {
                "name": engines.CONTAINER,
                "image": spec.engine.image,
                "command": engines.command(spec.engine),
                "args": engines.serving_args(spec.model, spec.engine, served_name, serving),
                "env": engines.environment(spec.model, spec.engine, spec.engine.api_key_secret_ref),
                "ports": [{"name": "http", "containerPort": engines.PORT}],
                "resources": resources(partitioning.resource, serving.weights_bytes),
                "volumeMounts": mounts,
                "securityContext": engines.container_security(),
                "startupProbe": _probe(health, period=5, failures=engines.START_SECONDS // 5),
                # Not ready after 15 s: an engine that only stutters must not push its load onto the other replicas.
                "readinessProbe": _probe(health, period=5, failures=3),
                "livenessProbe": _probe(health, period=30, failures=HUNG_SECONDS // 30, timeout=20),
                # Endpoints forget a terminating pod a moment after its SIGTERM: keep answering until they have.
                "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
            }
        ],
        "volumes": volumes,
    }


def served_pack(
    deployment: DeploymentRecord, spec: SLMDeploymentSpec, serving: Serving, means: PackMeans, former: Served | None
) -> ServedPack:
    """A pack's pod and its means: those that it has, while nothing else changes it, else these."""
    of_nothing = means.model_copy(update=dict.fromkeys(("supervisor_image", "router_image"), ""))
    of_nothing = of_nothing.model_copy(update={"device": "gpu", "product_labels": {}, "pull_secrets": ()})
    pod = digest(pod_template(deployment, spec, serving, Nodes(opt_in_label=""), of_nothing))
    if former is not None and former.pack is not None and former.pack.pod == pod:
        return former.pack
    return ServedPack(means=means, pod=pod)


def node_selector(
    deployment: DeploymentRecord, spec: SLMDeploymentSpec, serving: Serving, nodes: Nodes
) -> dict[str, str]:
    """Labels of the nodes whose GPUs this deployment's replicas may use."""
    partitioning = partitioning_of(serving.slice_class)
    if not partitioning.needs_opt_in:
        return dict(spec.accelerator.node_selector)
    # NB: slices that an administrator made are on nodes that may have no label for their product, and are labelled for us.
    product = nodes.product if serving.slice_class.is_whole else spec.accelerator.product
    allowed = nodes_allowed(spec.accelerator.node_selector, product, nodes.opt_in_label)
    serves = ANYBODY if spec.sharing.tenancy == "Shared" else serves_value(deployment.meta.key)
    return allowed | partitioning.node_labels(serving.slice_class, serves)


@lru_cache(maxsize=1024)
def advice_digest(serving: Serving) -> str:
    """Which advice a replica runs with: it changes when the engine's arguments do, and never alone."""
    started = asdict(replace(serving, weights_bytes=None))
    # NB: without it the digest is what it was before there was such a field, and no running replica is replaced.
    if not serving.left_out:
        del started["left_out"]
    del started["pack_on"]  # who divides the GPU is no advice
    return digest(started)


def change_cause(serving: Serving, profile: str) -> str:
    """What `kubectl rollout history` says of a revision."""
    kv = "its own choice of KV bytes" if serving.kv_bytes is None else f"{serving.kv_bytes / GIB:.2f} GiB of KV cache"
    shared = (
        "one engine a GPU"
        if serving.engines_per_gpu == 1
        else (f"{serving.engines_per_gpu} engines a GPU ({serving.sharing_mode})")
    )
    shared += ", in one pod" if serving.pack_on is not None else ""
    return f"advice {advice_digest(serving)} from profile {profile}: {shared}, batch {serving.batch_size}, {kv}"


def service(deployment: DeploymentRecord) -> Manifest:
    """The Service in front of the replicas."""
    return of_deployment("v1", "Service", deployment, "service") | {
        "spec": {
            "selector": selector_labels(deployment.meta.key),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        }
    }


def disruption_budget(deployment: DeploymentRecord, unavailable: int = 1) -> Manifest:
    """The PDB: one replica at a time, or as many as have no slice elsewhere while their node changes."""
    return of_deployment("policy/v1", "PodDisruptionBudget", deployment, "disruption-budget") | {
        "spec": {
            "maxUnavailable": unavailable,
            # NB: without it an engine that ends again and again, and answers nobody, would hold up a drain for ever.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector_labels(deployment.meta.key)},
        }
    }


def _means(served: Served) -> PackMeans | None:
    return None if served.pack is None else served.pack.means


def _spread(deployment: Key) -> dict[str, Any]:
    """Evenly over nodes where there is a choice, so that losing one costs few replicas.

    A wish, not a condition: which nodes have slices is the fleet's decision, and a pack that fills one node stays there.
    NB: only the hostname. A second constraint by zone would make the scheduler ignore both on nodes without a zone.
    """
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": selector_labels(deployment)},
    }


def _probe(path: str, *, period: int, failures: int, timeout: int = 5) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
