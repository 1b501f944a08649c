"""Where the operator is installed, and its settings, as far as this user may see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from slm_operator.cli.preflight.facts import Installed, Unseen
from slm_operator.kube.errors import Forbidden, NotFound
from slm_operator.kube.resources import CONFIG_MAP, WORKLOAD
from slm_operator.settings import SUFFIX, Settings, merged

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from slm_operator.cli.cluster import Cluster

T = TypeVar("T")

OPERATOR_SELECTOR = "app.kubernetes.io/name=slm-operator"
METRICS_TLS = "--metrics-tls"
"""The operator's own argument: a folder with the certificate of its metrics."""


async def may(asked: Awaitable[T], right: str) -> T | Unseen:
    """The answer, or the right that is missing for it."""
    try:
        return await asked
    except Forbidden:
        return Unseen(right)


async def operators_of(cluster: Cluster) -> tuple[Installed, ...]:
    """Every installation of the operator."""
    found = await cluster.client.list(WORKLOAD, selector=OPERATOR_SELECTOR)
    return tuple(installed(raw) for raw in found)


def installed(raw: dict[str, Any]) -> Installed:
    """An installation of the operator, from its Deployment."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    pod = (spec.get("template") or {}).get("spec") or {}
    container: dict[str, Any] = next(iter(pod.get("containers") or ()), {})
    image = str(container.get("image") or "")
    maps = [one["configMap"].get("name") for one in pod.get("volumes") or () if one.get("configMap")]
    label = (meta.get("labels") or {}).get("app.kubernetes.io/version")
    return Installed(
        namespace=meta.get("namespace") or "",
        name=meta["name"],
        wanted=spec.get("replicas", 1),
        ready=status.get("readyReplicas") or 0,
        version=label or image.rpartition("/")[2].partition(":")[2] or "?",
        settings_map=maps[0] if maps else None,
        secure_metrics=any(str(one).startswith(METRICS_TLS) for one in container.get("args") or ()),
    )


async def operator_settings(cluster: Cluster) -> tuple[Settings, str]:
    """The settings of the operator of this cluster, or the defaults and why it is these."""
    return await settings_of(cluster, await may(operators_of(cluster), "list deployments in all namespaces"))


async def settings_of(cluster: Cluster, operators: tuple[Installed, ...] | Unseen) -> tuple[Settings, str]:
    """The operator's settings, or the defaults and why it is these."""
    if isinstance(operators, Unseen) or not operators or operators[0].settings_map is None:
        return Settings(), "the operator's settings are not seen"
    at = operators[0]
    name = f"ConfigMap {at.namespace}/{at.settings_map}"
    try:
        data = await config_map(cluster, at.namespace, at.settings_map or "")
    except Forbidden:
        return Settings(), f"{name}, the operator's settings, is not seen: no right to get configmaps there"
    if data is None:
        return Settings(), f"{name}, the operator's settings, does not exist"
    try:
        return Settings.model_validate(merged({key: text for key, text in data.items() if key.endswith(SUFFIX)})), ""
    except ValueError as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "not YAML"
        return Settings(), f"{name}, the operator's settings, cannot be read by this command ({why})"


async def config_map(cluster: Cluster, namespace: str, name: str) -> dict[str, str] | None:
    """Data of a ConfigMap; None: it does not exist."""
    try:
        return dict((await cluster.client.get(CONFIG_MAP, namespace, name)).get("data") or {})
    except NotFound:
        return None
