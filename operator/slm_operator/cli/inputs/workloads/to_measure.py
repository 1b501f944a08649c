"""The SLMProfile that measures an engine which somebody else runs: same model, image, arguments, environment and resources.

Exists so that a workload which will not move can be measured, and so that a profile in the cluster which did is found by the
same key. Must never take a secret with it: variables from Secrets are named, values of keys are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from slm_core.engines.base import Owner
from slm_core.sharing.exclusive import EXCLUSIVE
from slm_core.slo import METRICS
from slm_core.tuning import MIN_EFFICIENCY

from slm_operator.advisor.advice import Objective
from slm_operator.api import names
from slm_operator.api.parts import refused_variable
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.base import PRODUCT_LABEL

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.engines.base import GivenFlag

    from slm_operator.cli.inputs.workloads.base import Raw, RunningEngine

ANY_EFFICIENCY = 0.01
"""Less than any batch has that makes more than a smaller one."""
TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_REVISION = re.compile(r"(hf://[^:@]+)[:@](.+)")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


def model_uri(running: RunningEngine) -> str:
    """Where its model is, in the words of `spec.model.uri`. Raises Refused where neither object nor arguments tell."""
    said = running.pod.model_uri
    if said is not None:
        return _of_hub(said)[0]
    model = running.line.model
    if model is None or model.startswith("$"):
        raise Refused(f"{running.subject}: which model it serves is not in its arguments: name it there")
    if running.pod.fetched_to is not None and model.startswith(running.pod.fetched_to):
        raise Refused(f"{running.subject}: from where its model comes into {model} is not in it: give an address there")
    if model.startswith("/"):
        return _mounted(running, model) or model
    if "://" in model:
        return model
    if _HUB.fullmatch(model):
        return f"hf://{model}"
    raise Refused(f"{running.subject}: {model} is no model's name with its owner, and no path: name it so")


def _of_hub(uri: str) -> tuple[str, str | None]:
    """An address without the revision that KServe takes in it, and that one."""
    found = _REVISION.fullmatch(uri)
    return (uri, None) if found is None else (found[1], found[2])


def _mounted(running: RunningEngine, path: str) -> str | None:
    """The claim that a path leads into. None: none; it is in the image."""
    mount = _mount_of(running, path)
    if mount is None:
        return None
    claim = _volume(running, mount).get("persistentVolumeClaim")
    if isinstance(claim, dict) and claim.get("claimName"):
        below = path[len(_folder(mount)) :].strip("/")
        inside = "/".join(filter(None, (str(mount.get("subPath") or "").strip("/"), below)))
        return f"pvc://{claim['claimName']}{f'/{inside}' if inside else ''}"
    raise Refused(
        f"{running.subject}: its model {path} is in volume {mount.get('name')}, which is no claim: a profile reads models "
        "from a hub, a claim, a bucket or an image"
    )


def _mount_of(running: RunningEngine, path: str) -> Raw | None:
    """The innermost mount that a path leads into."""
    around = [
        one
        for one in running.container.mounts
        if (folder := _folder(one)) and (path == folder or path.startswith(f"{folder}/"))
    ]
    return max(around, key=lambda one: len(_folder(one)), default=None)


def _folder(mount: Raw) -> str:
    return str(mount.get("mountPath") or "").rstrip("/")


def _volume(running: RunningEngine, mount: Raw) -> Raw:
    return next((one for one in running.pod.volumes if one.get("name") == mount.get("name")), {})


def profile(running: RunningEngine, arguments: Namespace) -> Raw:
    """The manifest, for the question that the command line asks. Raises Refused."""
    product, other = running.gpu_product, {k: v for k, v in running.pod.node_selector.items() if k != PRODUCT_LABEL}
    gpu: Raw = {"product": product} if product else {}
    gpu |= {"nodeSelector": other} if other else {}
    gpu |= {"tolerations": list(running.pod.tolerations)} if running.pod.tolerations else {}
    spec: Raw = {"model": _model(running), "engine": _engine(running)}
    spec |= {"gpu": gpu} if gpu else {}
    spec["workload"] = _workload(arguments)
    spec["search"] = _search(arguments)
    if template := _pod_template(running):
        spec["podTemplate"] = template
    metadata = {"name": _name(running)}
    if running.subject.namespace:
        metadata["namespace"] = running.subject.namespace
    return {"apiVersion": names.API_VERSION, "kind": names.PROFILE_KIND, "metadata": metadata, "spec": spec}


def _name(running: RunningEngine) -> str:
    return f"{running.subject.name[:50].rstrip('-.')}-advice"


def _model(running: RunningEngine) -> Raw:
    found: Raw = {"uri": model_uri(running)}
    if inside := _of_hub(running.pod.model_uri or "")[1]:
        found["revision"] = inside
    if (revision := _said(running, Owner.REVISION)) and revision.value:
        found["revision"] = revision.value
    if (trusting := _said(running, Owner.REMOTE_CODE)) and not trusting.name.startswith("--no-"):
        found["remoteCode"] = "Trusted"
    token = next((one for one in running.container.given_env if one.get("name") == TOKEN), {})
    source = token.get("valueFrom")
    secret = source.get("secretKeyRef") if isinstance(source, dict) else None
    if isinstance(secret, dict) and secret.get("key") == TOKEN:
        found["credentialsSecretRef"] = {"name": secret.get("name")}
    return found


def _said(running: RunningEngine, owner: Owner) -> GivenFlag | None:
    """The last flag of an owner that has no more than one."""
    owned = running.engine.owned_flags
    return next((flag for flag in reversed(running.line.flags) if owned[flag.name] is owner), None)


def _engine(running: RunningEngine) -> Raw:
    image = running.container.image
    if image is None:
        raise Refused(f"{running.subject}: its image is not in it: set it there, for what is measured is that image")
    parsed = running.engine.read_arguments([word.text for word in running.arguments])
    found: Raw = {"image": image}
    if running.command[-2:] != running.engine.command:
        found["command"] = list(running.command)
    if running.line.own:
        found["args"] = list(running.line.own)
    if env := [one for one in map(_variable, running.container.given_env) if _is_measured(running, one)]:
        found["env"] = env
    if parsed.max_model_len:
        found["maxModelLen"] = parsed.max_model_len
    if parsed.dtype and parsed.dtype != "auto":
        found["dtype"] = {"half": "float16", "float": "float32"}.get(parsed.dtype, parsed.dtype)
    return found


def _variable(raw: Raw) -> Raw:
    """As it is written, without what the API does not have."""
    kept = {key: raw[key] for key in ("name", "value", "valueFrom") if raw.get(key) is not None}
    return kept | ({"value": str(kept["value"])} if "value" in kept else {})


def _is_measured(running: RunningEngine, variable: Raw) -> bool:
    """Those that change what is measured, and that a container of the operator's may have.

    NB: those that only put a command line together are in the arguments already.
    """
    name = str(variable.get("name"))
    origin = running.container.env.get(name)
    used = any(f"${sign}" in _texts(running) for sign in (name, f"({name})", f"{{{name}}}")) or any(
        origin is not None and word.origin is not None and word.origin.path == origin.origin.path
        for word in running.arguments
    )
    if "value" in variable and _SECRET.search(name):
        return False
    return not used and running.engine.measured_variable(name) and refused_variable(name) is None


def _texts(running: RunningEngine) -> str:
    return " ".join(word.text for word in (*running.container.command, *running.container.args))


def _workload(arguments: Namespace) -> Raw:
    found: Raw = {"inputTokens": arguments.input_tokens, "outputTokens": arguments.output_tokens}
    if arguments.concurrency is not None:
        found["concurrencyPerGpu"] = arguments.concurrency
    if arguments.requests_per_second is not None:
        found["requestsPerSecondPerGpu"] = arguments.requests_per_second
    return found


def _search(arguments: Namespace) -> Raw:
    """NB: where nobody shares its GPU no pack can be served, so none is measured."""
    slo: Raw = {}
    for metric in METRICS:
        limit: Raw = {}
        if (most := getattr(arguments, metric.field)) is not None:
            limit["maxMs"] = most
        if metric.factor is not None and (factor := getattr(arguments, metric.factor.field)) is not None:
            limit["maxFactor"] = factor
        if limit:
            slo[metric.key] = limit | {"statistic": str(getattr(arguments, metric.statistic_field))}
    found: Raw = {"slo": slo} if slo else {}
    if arguments.engines_per_gpu is not None:
        return found | {"mode": arguments.mode, "enginesPerGpu": arguments.engines_per_gpu}
    return found | {"mode": str(EXCLUSIVE.mode), "minEfficiency": least_efficiency(arguments)}


def least_efficiency(arguments: Namespace) -> float:
    """Of a batch, for one engine that has its GPU to itself.

    NB: the published limit leaves memory for further engines. Where there can be none it would only cost tokens, and advice must
    never be worse than what runs.
    """
    given: float = arguments.min_efficiency
    is_default = given == MIN_EFFICIENCY.default and arguments.objective != Objective.FREE_MEMORY
    return ANY_EFFICIENCY if is_default else given


def _pod_template(running: RunningEngine) -> Raw:
    """What its engine has of CPU and memory, and what it only reads."""
    volumes, mounts = _read_only(running)
    given = {"resources": _resources(running), "volumeMounts": mounts}
    container = {key: value for key, value in given.items() if value}
    pod: Raw = {"containers": [{"name": "engine"} | container]} if container else {}
    pod |= {"volumes": volumes} if volumes else {}
    return {"spec": pod} if pod else {}


def _read_only(running: RunningEngine) -> tuple[list[Raw], list[Raw]]:
    """Volumes and mounts of claims and ConfigMaps that the engine cannot write to: without them it may not start.

    NB: not the model's, which the operator mounts; and under names of our own, or a volume would replace one of the operator's.
    """
    model = _mount_of(running, running.line.model or "")
    volumes: dict[str, Raw] = {}
    mounts: list[Raw] = []
    for mount in running.container.mounts:
        volume = _volume(running, mount)
        source = _content(volume, mount)
        if mount is not model and source:
            name = f"of-workload-{running.pod.volumes.index(volume)}"
            volumes[name] = {"name": name} | source
            mounts.append(mount | {"name": name, "readOnly": True})
    return list(volumes.values()), mounts


def _content(volume: Raw, mount: Raw) -> Raw:
    """The source of a volume that is only read from; empty for any other."""
    claim, config = volume.get("persistentVolumeClaim"), volume.get("configMap")
    if isinstance(config, dict):
        return {"configMap": config}
    if isinstance(claim, dict) and (claim.get("readOnly") is True or mount.get("readOnly") is True):
        return {"persistentVolumeClaim": claim}
    return {}


def _resources(running: RunningEngine) -> Raw:
    """CPU and memory; the GPU is the operator's to ask for."""
    found: Raw = {}
    for kind in ("requests", "limits"):
        given: Any = running.container.resources.get(kind)
        if isinstance(given, dict) and (kept := {k: v for k, v in given.items() if k in ("cpu", "memory")}):
            found[kind] = kept
    return found
