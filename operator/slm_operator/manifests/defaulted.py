"""The operator's defaults below what a user says: in a spec what changes a measurement, in a pod all the rest.

So a profile names the image, and the CPU and memory where an administrator sets those: they are part of what was measured.
How a pod reaches its node, its registry and its model is no part of that: whoever measures takes it from the settings of the
day. Must never set what a spec or a podTemplate sets too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_operator.manifests.engine import CONTAINER
from slm_operator.manifests.overlay import merge

if TYPE_CHECKING:
    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.defaults import Defaults, EngineResources, Proxy

CA_VOLUME, CA_FOLDER, CA_FILE = "slm-ca", "/etc/slm-ca", "ca.crt"
_TRUSTING = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Variables by which OpenSSL and what is built on it, Python's requests, and clients of S3 know whom to trust."""


def measured_with(spec: SLMDeploymentSpec, defaults: Defaults) -> SLMDeploymentSpec:
    """The spec with those defaults that change figures: image, CPU and memory of an engine."""
    image = spec.engine.image or defaults.engine_image
    changed = {
        "engine": spec.engine.model_copy(update={"image": image}),
        "pod_template": _with_resources(spec.pod_template, defaults.resources),
    }
    return spec.model_copy(update=changed)


def in_pod(template: dict[str, Any], defaults: Defaults) -> dict[str, Any]:
    """A pod's template, before a podTemplate is merged over it, with all other defaults."""
    (engine,) = (one for one in template["spec"]["containers"] if one["name"] == CONTAINER)
    there = {variable["name"] for variable in engine["env"]}
    env = [{"name": name, "value": value} for name, value in _variables(defaults).items() if name not in there]
    volumes, mounts = _trusted(defaults)
    container: dict[str, Any] = {"env": env} | ({"volumeMounts": mounts} if mounts else {})
    if defaults.read_only_root_filesystem:
        template = merge(template, {"spec": _read_only(template["spec"])})
    pod: dict[str, Any] = {
        "tolerations": [one.given() for one in defaults.tolerations],
        "imagePullSecrets": [{"name": name} for name in defaults.image_pull_secrets],
        "runtimeClassName": defaults.runtime_class_name,
        "volumes": volumes,
        "containers": [{"name": CONTAINER} | container] if env or mounts else [],
    }
    merged: dict[str, Any] = merge(template, {"spec": {field: value for field, value in pod.items() if value}})
    return merged


def _read_only(pod: dict[str, Any]) -> dict[str, Any]:
    """What of each container is to change, so that none can write into its image."""
    closed = {"securityContext": {"readOnlyRootFilesystem": True}}
    parts = (part for part in ("containers", "initContainers") if part in pod)
    return {part: [{"name": one["name"]} | closed for one in pod[part]] for part in parts}


def _variables(defaults: Defaults) -> dict[str, str]:
    hub = {"HF_ENDPOINT": defaults.hub_endpoint} if defaults.hub_endpoint else {}
    trusted = dict.fromkeys(_TRUSTING, f"{CA_FOLDER}/{CA_FILE}") if defaults.ca_bundle.config_map else {}
    return hub | _proxied(defaults.proxy) | trusted


def _proxied(proxy: Proxy) -> dict[str, str]:
    """NB: in capitals alone. Python prefers small letters, so of a default in both a user's own would lose."""
    given = {name: value for name, value in (("HTTP_PROXY", proxy.http), ("HTTPS_PROXY", proxy.https)) if value}
    return given | ({"NO_PROXY": proxy.none} if given and proxy.none else {})


def _trusted(defaults: Defaults) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    bundle = defaults.ca_bundle
    if not bundle.config_map:
        return [], []
    source = {"name": bundle.config_map, "items": [{"key": bundle.key, "path": CA_FILE}]}
    return [{"name": CA_VOLUME, "configMap": source}], [{"name": CA_VOLUME, "mountPath": CA_FOLDER, "readOnly": True}]


def _with_resources(template: dict[str, Any] | None, resources: EngineResources) -> dict[str, Any] | None:
    """The podTemplate with the amounts that it does not name. NB: one that is misshapen stays so, to be refused in words."""
    given = {name: amount for name, amount in resources.given().items() if amount}
    whole = template or {}
    pod = whole.get("spec", {})
    containers = pod.get("containers", []) if isinstance(pod, dict) else None
    if not given or not isinstance(containers, list) or not all(isinstance(one, dict) for one in containers):
        return template
    nothing: dict[str, Any] = {"name": CONTAINER}
    engine = next((one for one in containers if one.get("name") == CONTAINER), nothing)
    own: Any = engine.get("resources", {})
    if not _is_shaped(own):
        return template
    named = {name for amounts in own.values() for name in amounts}
    # NB: of a request above a user's own limit the API server would make nothing: an amount is theirs, or the default's.
    more = {name: amount for name, amount in given.items() if name not in named}
    amounts = {kind: more | own.get(kind, {}) for kind in ("requests", "limits")}
    others = [one for one in containers if one is not engine]
    return (
        whole | {"spec": pod | {"containers": [engine | {"resources": own | amounts}, *others]}} if more else template
    )


def _is_shaped(resources: Any) -> bool:
    return isinstance(resources, dict) and all(isinstance(amounts, dict) for amounts in resources.values())
