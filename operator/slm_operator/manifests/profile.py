"""The SLMProfile that a deployment needs, and the Job that measures it, or what it still lacks.

The Job runs in the engine's own image: an init container of the operator's image copies the runtime (a zipapp) into an
emptyDir, the main container is the engine's image and runs it. So the measured engine is the served engine. The Job
needs no API token: it prints JSON lines, and the operator reads its log.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from slm_core.sharing import word_of
from slm_core.slo import LIMIT_FIELDS, METRICS
from slm_core.tuning import flag, tuned

from slm_operator.api import names
from slm_operator.api.base import only
from slm_operator.api.parts import EngineSpec, MeasuredModel
from slm_operator.api.profile import MUTABLE, GpuSpec, SLMProfileSpec
from slm_operator.digest import digest
from slm_operator.manifests import engine as engines
from slm_operator.manifests.defaulted import in_pod
from slm_operator.manifests.metadata import Manifest, job_name, label_value, owner
from slm_operator.manifests.model import model_source
from slm_operator.manifests.node_affinity import required
from slm_operator.manifests.overlay import merge
from slm_operator.manifests.profile_key import profile_key
from slm_operator.manifests.pulling import pulled_with
from slm_operator.manifests.question import searched
from slm_operator.manifests.resources import engine_resources, largest_pack, pack_resources
from slm_operator.manifests.runtime_copy import RUNTIME, RUNTIME_MOUNT, runtime_container, runtime_volume
from slm_operator.partitioning.base import nodes_allowed
from slm_operator.partitioning.whole_gpus import ONLY_WHOLE, WHOLE_GPUS
from slm_operator.quantity import amount
from slm_operator.watch.records import Key

if TYPE_CHECKING:
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.settings import Profiling, Settings
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord

DEADLINE_SLACK_SECONDS = 1800
"""Beyond the GPU budget: pulling images and loading a model hold no measurement."""


_HOSTNAME = "kubernetes.io/hostname"
_PRIORITY = frozenset({"priorityClassName", "priority", "preemptionPolicy"})


def profile_spec(spec: SLMDeploymentSpec) -> SLMProfileSpec:
    """What a deployment needs to have measured."""
    return SLMProfileSpec.model_validate(_body(spec))


def profile_name(spec: SLMDeploymentSpec) -> str:
    """Name of the profile that a deployment with this spec needs: the model's name, readable, and the key."""
    tail = spec.model.uri.rstrip("/").rsplit("/", 1)[-1].lower()
    readable = "".join(c if c.isascii() and c.isalnum() else "-" for c in tail).strip("-")[:40].rstrip("-") or "model"
    return f"{readable}-{profile_key(profile_spec(spec))[:8]}"


def following_name(spec: SLMDeploymentSpec, measured_at: str) -> str:
    """Name of the profile that is to follow the one which was measured at this time."""
    return f"{profile_name(spec)}-{digest(measured_at, 4)}"


def profile(deployment: DeploymentRecord, spec: SLMDeploymentSpec, measured_before_at: str | None = None) -> Manifest:
    """The SLMProfile that this deployment needs, or the one to follow that of `measured_before_at`.

    NB: nobody owns it. What was measured outlives the deployments that it was measured for.
    """
    name = profile_name(spec) if measured_before_at is None else following_name(spec, measured_before_at)
    return _manifest(Key(deployment.meta.key.namespace, name), profile_key(profile_spec(spec)), _body(spec))


def disowned(record: ProfileRecord, spec: SLMProfileSpec) -> Manifest:
    """The same profile without the owners that earlier versions gave it: with the last of them it would go."""
    return _manifest(record.meta.key, profile_key(spec), spec.given())


def _manifest(profile: Key, key: str, body: dict[str, Any]) -> Manifest:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.PROFILE_KIND,
        "metadata": {
            "name": profile.name,
            "namespace": profile.namespace,
            "labels": {names.PROFILE_LABEL: key, names.MANAGED_BY_LABEL: names.MANAGED_BY},
        },
        "spec": body,
    }


def _body(spec: SLMDeploymentSpec) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": only(MeasuredModel, spec.model).given(),
        "engine": only(EngineSpec, spec.engine).given(),
        "gpu": only(GpuSpec, spec.accelerator).given(),
        "workload": spec.workload.given(),
        "search": searched(spec).given(),
    }
    template = _without_priority(spec.pod_template or {})
    return body | ({"podTemplate": template} if template else {})


def _without_priority(template: dict[str, Any]) -> dict[str, Any]:
    """NB: what a deployment names is its replicas' priority, by which a profile would evict the pods of others."""
    inside = template.get("spec")
    if not isinstance(inside, dict) or not _PRIORITY & inside.keys():
        return template
    kept = {name: value for name, value in inside.items() if name not in _PRIORITY}
    return {name: value for name, value in template.items() if name != "spec"} | ({"spec": kept} if kept else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A wish to the scheduler: one of these hosts, by weight (1 to 100)."""

    weight: int
    hostnames: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """On which nodes a profile may be measured, and on which it would rather be."""

    opt_in_label: str | None
    """Label of the opted-in nodes: the pod selects it, whatever else is said of its nodes. None: no node opted in, and any may be."""
    preferred: tuple[Preference, ...] = ()
    device: str = "gpu"
    """What the runtime is to measure; `cpu` only where the GPUs are stand-ins."""
    excluded: tuple[str, ...] = ()
    """Hosts with parts of GPUs, which their labels need not tell."""
    gpu_memory_bytes: int | None = None
    """Memory of each GPU there, where the nodes' labels agree on it."""


def request_digest(spec: SLMProfileSpec) -> str:
    """Of what may change of a profile's spec until it has ended: a Job was made for it, and cannot be changed."""
    return digest({path: reduce(_field, path.split("."), spec.given()) for path in MUTABLE})


def template_digest(spec: SLMProfileSpec) -> str:
    """Of what may change between two tries and change their figures."""
    return digest(spec.pod_template or {})


def _field(inside: Any, name: str) -> Any:
    return inside.get(name)


def deadline_seconds(spec: SLMProfileSpec) -> int:
    """How long its pod may be on a node, from the moment that the kubelet accepts it."""
    return int(spec.search.max_gpu_minutes * 60) + DEADLINE_SLACK_SECONDS


def profile_job(record: ProfileRecord, spec: SLMProfileSpec, settings: Settings, where: Where) -> Manifest:
    """The Job that measures a profile on one whole GPU, with the settings of the day.

    NB: a Job's own deadline would count the time that its pod waits for a GPU; the pod's counts from the kubelet on.
    """
    key = record.meta.key
    labels = {
        names.PROFILE_LABEL: label_value(key.name),
        "app.kubernetes.io/name": "slm-profile",
        "app.kubernetes.io/instance": label_value(key.name),
        "app.kubernetes.io/component": "profile",
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(record),
            "namespace": key.namespace,
            "labels": labels,
            "annotations": {
                names.REQUEST_ANNOTATION: request_digest(record.spec or spec),
                names.TEMPLATE_ANNOTATION: template_digest(spec),
            }
            | ({} if record.retry is None else {names.RETRY_ANNOTATION: record.retry})
            | ({} if spec.gpu.product is None else {names.PRODUCT_ANNOTATION: spec.gpu.product}),
            "ownerReferences": [owner(names.PROFILE_KIND, record.meta)],
        },
        "spec": {
            "backoffLimit": 0,  # a second try costs GPU time: the operator decides, not the Job controller
            "template": _of_settings(_pod_template(spec, labels, settings, key.name, where), settings.profiling),
        },
    }


def _of_settings(template: dict[str, Any], profiling: Profiling) -> dict[str, Any]:
    """The administrator's class, whatever a podTemplate names: or replicas could not rely on pre-empting profiles."""
    template, priority = pulled_with(template, profiling.image_pull_secrets), profiling.priority_class_name
    if not priority:
        return template
    kept = {name: value for name, value in template["spec"].items() if name not in _PRIORITY}
    return template | {"spec": kept | {"priorityClassName": priority}}


def _pod_template(
    spec: SLMProfileSpec, labels: dict[str, str], settings: Settings, name: str, where: Where
) -> dict[str, Any]:
    volumes, mounts = engines.volumes(spec.model, spec.workload)
    template: dict[str, Any] = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 60,
            "activeDeadlineSeconds": deadline_seconds(spec),
            "securityContext": engines.pod_security(),
            "nodeSelector": nodes_allowed(spec.gpu.node_selector, spec.gpu.product, where.opt_in_label),
            "tolerations": [toleration.given() for toleration in spec.gpu.tolerations],
            "initContainers": [runtime_container(settings.profiling.image)],
            "containers": [
                {
                    "name": engines.CONTAINER,
                    "image": spec.engine.image,
                    "command": ["python3", RUNTIME],
                    "args": profile_args(spec, name, where),
                    "env": engines.environment(spec.model, spec.engine),
                    "volumeMounts": [*mounts, RUNTIME_MOUNT | {"readOnly": True}],
                    "securityContext": engines.container_security(),
                }
            ],
            "volumes": [*volumes, runtime_volume()],
        },
    }
    wishes = [_wish(one) for one in where.preferred]
    if wishes:
        node_affinity = {"preferredDuringSchedulingIgnoredDuringExecution": wishes}
        template["spec"]["affinity"] = {"nodeAffinity": node_affinity}
    merged: dict[str, Any] = merge(in_pod(template, settings.defaults), spec.pod_template or {})
    elsewhere = [{"key": _HOSTNAME, "operator": "NotIn", "values": list(where.excluded)}] if where.excluded else []
    merged["spec"] = required(merged["spec"], [(*term, *elsewhere) for term in ONLY_WHOLE])
    measuring = next(one for one in merged["spec"]["containers"] if one["name"] == engines.CONTAINER)
    measuring["resources"] = pack_resources(_engine(spec), largest_pack(spec.search))
    return merged


def _engine(spec: SLMProfileSpec) -> dict[str, Any]:
    """Resources of each engine that is measured: those of a replica."""
    return engine_resources(WHOLE_GPUS.resource, spec.pod_template or {})


def _wish(preference: Preference) -> dict[str, Any]:
    host = {"key": _HOSTNAME, "operator": "In", "values": list(preference.hostnames)}
    return {"weight": preference.weight, "preference": {"matchExpressions": [host]}}


def profile_args(spec: SLMProfileSpec, name: str, where: Where) -> list[str]:
    """Arguments of `slm_runtime profile`, the same command that a person runs without Kubernetes."""
    source = model_source(spec.model)
    args = ["profile", "--model", source.path, "--model-uri", spec.model.uri, "--served-model-name", name]
    args += ["--image", spec.engine.image or "", *_workload_args(spec), *_search_args(spec)]
    if spec.model.revision is not None:
        args += ["--model-revision", spec.model.revision]
    args += _device_args(spec, where)
    return [*args, "--", *engines.command(spec.engine), "--", *engines.fixed_args(spec.model, spec.engine)]


def _device_args(spec: SLMProfileSpec, where: Where) -> list[str]:
    """What must be found there, and what each engine may use of the host: as much as a replica."""
    limits = _engine(spec).get("limits") or {}
    cpus, memory = amount(limits.get("cpu")), amount(limits.get("memory"))
    flags: tuple[tuple[str, object | None], ...] = (
        ("--device", where.device),
        ("--gpu-product", spec.gpu.product),
        ("--gpu-memory-bytes", where.gpu_memory_bytes),
        ("--cpus-per-engine", f"{float(cpus):g}" if cpus else None),
        ("--host-memory-per-engine-bytes", int(memory) if memory else None),
    )
    return [text for flag, value in flags if value is not None for text in (flag, str(value))]


def _workload_args(spec: SLMProfileSpec) -> list[str]:
    load = spec.workload
    if load.dataset is not None:
        path = load.dataset
        args = ["--dataset", f"/datasets/{path.removeprefix('pvc://')}" if path.startswith("pvc://") else path]
    else:
        args = ["--input-tokens", str(load.input_tokens), "--output-tokens", str(load.output_tokens)]
    loads = (("--concurrency", load.concurrency_per_gpu), ("--requests-per-second", load.requests_per_second_per_gpu))
    return args + [text for flag, value in loads if value is not None for text in (flag, str(value))]


def _search_args(spec: SLMProfileSpec) -> list[str]:
    search, slo = spec.search, spec.search.slo.limits()
    flags: tuple[tuple[str, object | None], ...] = (
        *((flag(f"slo_{name}"), getattr(slo, name)) for name in LIMIT_FIELDS),
        *((flag(f"slo_{m.statistic_field}"), m.statistic(slo)) for m in METRICS if m.is_limited(slo)),
        *((flag(name), value) for name, value in tuned(search).items()),
        ("--sharing-mode", word_of(search.mode)),
        ("--engines-per-gpu", search.engines_per_gpu),
        ("--max-engines-per-gpu", search.max_engines_per_gpu),
        ("--max-gpu-minutes", search.max_gpu_minutes),
    )
    return [text for flag, value in flags if value is not None for text in (flag, str(value))]
