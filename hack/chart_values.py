"""The chart's values as types, and what is written from them: values.yaml, values.schema.json and docs/reference/chart.md.

Exists so that a value, its default, its check and its documentation cannot differ. The part under `config` is the
operator's own Settings: what is added there appears in the chart by itself.
"""
# ruff: noqa: RUF012 - pydantic copies mutable defaults

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field
from slm_operator.settings import Part, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 118
SET_BY_CHART = ("config", "profiling", "image")
"""A setting that the chart fills from `image`, so that profile pods and operator are one version."""

Port = Annotated[int, Field(ge=1, le=65535)]
Names = dict[str, str]
Raw = dict[str, Any]


class Image(Part):
    """Image of the operator. Profile pods take the runtime from the same image."""

    repository: Annotated[str, Field(min_length=1)] = "slm-operator"
    """Registry and name."""
    tag: str = ""
    """Default: the chart's appVersion."""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    """Digest of the image (sha256:...). It wins over the tag."""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """When the kubelet pulls it."""


class Crds(Part):
    """The two kinds, SLMDeployment and SLMProfile."""

    install: bool = True
    """Install and upgrade the CRDs with the chart."""
    keep: bool = True
    """Keep them, and every object of theirs, when the chart is uninstalled."""


class Rbac(Part):
    """Roles."""

    create: bool = True
    """Make the operator's roles and bindings: exactly what its code calls, see docs/reference/security.md."""
    aggregate: bool = True
    """Let the built-in roles view, edit and admin of a namespace cover the two kinds."""
    gateway_api: bool = False
    """Let the operator make InferencePools and HTTPRoutes, for spec.routing."""


class Policy(Part):
    """What the operator's own token may do beyond what roles can say."""

    enabled: bool = True
    """Make ValidatingAdmissionPolicies for the operator's own user: see docs/reference/security.md. Not made where config.namespaces is set."""
    closed_namespaces: list[str] = []
    """Further namespaces in which the operator may write nothing, beside kube-system, its own and the device plugin's."""


class ServiceAccount(Part):
    """The operator's identity."""

    create: bool = True
    """Make it."""
    name: str = ""
    """Default: the release's name."""
    annotations: Names = {}
    """Annotations of the account."""


class PodDisruptionBudget(Part):
    """Protection against draining both operators at once; made when there are two or more."""

    enabled: bool = True
    """Make it."""


class Monitor(Part):
    """An object of the Prometheus operator, whose CRDs must be there."""

    enabled: bool = False
    """Make it."""
    labels: Names = {}
    """Labels by which your Prometheus selects it."""
    interval: Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")] = "30s"
    """Time between scrapes."""


class Dashboards(Part):
    """Grafana dashboards as ConfigMaps, for the sidecar that most Grafana charts run."""

    enabled: bool = False
    """Make them."""
    labels: Names = {"grafana_dashboard": "1"}
    """Labels by which your Grafana's sidecar selects them."""
    annotations: Names = {}
    """Annotations, for instance the folder."""


class Alerts(Part):
    """A PrometheusRule: alerts for what somebody has to act on."""

    enabled: bool = False
    """Make it."""
    labels: Names = {}
    """Labels by which your Prometheus selects it."""
    rule_labels: Names = {}
    """Labels of every alert, by which your Alertmanager routes it."""
    runbook: str = "https://slm-operator.io/docs/how-to/on-call.md"
    """Where each alert is explained, under its name: your copy, where people on call cannot reach this one."""


class Metrics(Part):
    """Metrics of the operator, and of the engines."""

    port: Port = 9090
    """Port of /metrics."""
    service_monitor: Monitor = Monitor()
    """A ServiceMonitor of the operator. Not together with podMonitor: figures would be counted twice."""
    pod_monitor: Monitor = Monitor()
    """A PodMonitor of the operator, where no Service is wanted."""
    engines: Monitor = Monitor()
    """A PodMonitor of all engines, in every namespace."""
    alerts: Alerts = Alerts()
    """A PrometheusRule: alerts for what somebody has to act on."""
    dashboards: Dashboards = Dashboards()
    """Grafana dashboards."""


class NetworkPolicy(Part):
    """What the operator's pods may speak with. Needs a network that enforces policies."""

    enabled: bool = False
    """Make it: in, metrics and probes; out, DNS, the API server and the engines."""
    metrics_from: list[Raw] = []
    """Peers that may scrape, as in a NetworkPolicy's `from`. Empty: everybody."""
    api_server_ports: Annotated[list[Port], Field(min_length=1)] = [443, 6443]
    """Ports of the API server. Its address is known to nobody in advance, so any address is allowed on these ports."""


class Values(Part):
    """Values of the chart."""

    image: Image = Image()
    """Image of the operator. Profile pods take the runtime from the same image."""
    image_pull_secrets: list[Names] = []
    """Secrets for pulling it, as in a pod: [{name: registry}]."""
    replicas: Annotated[int, Field(ge=0, le=10)] = 2
    """Replicas of the operator. One acts (Lease), the others stand by."""
    config: Settings = Settings()
    """Settings of the operator. A change restarts the operator, and nothing else."""
    crds: Crds = Crds()
    """The two kinds."""
    rbac: Rbac = Rbac()
    """Roles."""
    policy: Policy = Policy()
    """What the operator's own token may do beyond what roles can say."""
    service_account: ServiceAccount = ServiceAccount()
    """The operator's identity."""
    resources: Raw = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
    """Requests and limits of the operator's container."""
    node_selector: Names = {}
    """Labels of nodes that may run the operator. It needs no GPU."""
    tolerations: list[Raw] = []
    """Tolerations of its pods, beside that of its own mark on a node that it changes."""
    affinity: Raw = {}
    """Affinity of its pods. Empty: replicas prefer different nodes."""
    priority_class_name: str = ""
    """Priority class of its pods; system-cluster-critical keeps it when nodes run full."""
    pod_annotations: Names = {}
    """Annotations of its pods."""
    pod_labels: Names = {}
    """Further labels of its pods."""
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    """Protection against draining both operators at once."""
    network_policy: NetworkPolicy = NetworkPolicy()
    """What the operator's pods may speak with."""
    metrics: Metrics = Metrics()
    """Metrics of the operator, and of the engines."""
    verbose: bool = False
    """Log what libraries say too."""


def values_yaml() -> str:
    """values.yaml: every default, with what it means above it."""
    head = (
        "# Generated by `make generate` from hack/chart_values.py and operator/slm_operator/settings.py. Do not edit.\n"
    )
    return head + "\n".join(_lines(Values(), ())) + "\n"


def values_schema() -> str:
    """values.schema.json: a value that is misspelt or of the wrong type is refused before anything is installed."""
    schema = Values.model_json_schema(by_alias=True)
    del schema["$defs"]["Profiling"]["properties"]["image"]
    # What Helm itself adds when the chart is a part of another.
    schema["properties"]["global"] = {
        "type": "object",
        "description": "Values that Helm shares with subcharts; unused.",
    }
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#"} | _untitled(schema), indent=2) + "\n"


def values_table() -> str:
    """docs/reference/chart.md."""
    rows = [f"| `{'.'.join(path)}` | `{_inline(value)}` | {text} |" for path, value, text in _leaves(Values(), ())]
    return "\n".join(
        (
            "# Values of the chart",
            "",
            "Generated by `make generate`. A value that is not listed here is refused by `values.schema.json`.",
            "",
            "| value | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        )
    )


def _fields(part: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[str, Any, str]]:
    for name, field in type(part).model_fields.items():
        shown = field.alias or name
        if (*path, shown) != SET_BY_CHART:
            yield shown, getattr(part, name), " ".join((field.description or "").split())


def _lines(part: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    indent = "  " * len(path)
    for name, value, text in _fields(part, path):
        if not path:
            yield ""
        yield from _comment(text, indent)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, (*path, name))
        else:
            yield f"{indent}{name}: {_inline(value)}"


def _leaves(part: BaseModel, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    for name, value, text in _fields(part, path):
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value, text


def _comment(text: str, indent: str) -> Iterator[str]:
    line = f"{indent}#"
    for word in text.split():
        if len(line) + 1 + len(word) > WIDTH:
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line


def _inline(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    if isinstance(plain, str):
        return json.dumps(plain)
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000).strip().removesuffix("\n...")


def _untitled(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _untitled(part) for key, part in schema.items() if not (key == "title" and isinstance(part, str))}
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema
