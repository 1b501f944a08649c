"""Settings of the operator: one frozen value, read at start-up from a file, or from the files of a folder.

The chart's `config` value is such a file; whoever installs without Helm adds others beside it. Everything that differs
between an installation by NVIDIA's GPU Operator, by the plugin's own chart, and a test bed is here and nowhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from slm_core import tuning

from slm_operator.api import names
from slm_operator.api.base import within
from slm_operator.defaults import Defaults
from slm_operator.yaml_decoding import decode_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIX = ".yaml"
"""Of the files in a folder that are settings."""


class Part(BaseModel):
    """Base: camelCase in the file, docstrings as descriptions, misspelt keys refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )


class DevicePlugin(Part):
    """Where NVIDIA's device plugin is, and how it is given its configuration."""

    namespace: str = "nvidia-device-plugin"
    """Namespace of the plugin's ConfigMap and pods. The GPU Operator's is gpu-operator."""
    config_map: str = "nvidia-device-plugin-configs"
    """ConfigMap whose keys are configurations. The operator adds keys of its own and edits no other."""
    config_label: str = "nvidia.com/device-plugin.config"
    """Node label that selects a key."""


class Profiling(Part):
    """Limits of measuring."""

    image: str = "slm-operator:dev"
    """Image with the runtime zipapp, used by the profile pod's init container. The chart sets the operator's own."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets by which profile pods and packs pull that image, each in the pod's own namespace. The chart sets those of the operator."""
    concurrent: Annotated[int, Field(ge=0, le=100)] = 2
    """Profiles that may run at once in the cluster. 0 measures nothing."""
    device: Literal["Gpu", "Cpu"] = "Gpu"
    """What profiles measure. Cpu only in test clusters whose GPUs are stand-ins: its figures say nothing of any GPU."""
    priority_class_name: Annotated[str, Field(max_length=253, pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$")] = ""
    """PriorityClass of profile pods, whatever a podTemplate names. Give one of lower value than that of replicas and with preemptionPolicy Never: replicas may then pre-empt a profile, which is tried again, and a profile nobody. Empty: the podTemplate's, or the cluster's default."""


_LABEL_NAME = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"


def _label_name(text: str) -> str:
    if re.fullmatch(_LABEL_NAME, text, re.ASCII) is None:
        raise ValueError(f"{text!r} is no name of a label: give one like node-restriction.kubernetes.io/slm")
    return text


class Nodes(Part):
    """Which nodes are ours to use, and how they are changed."""

    opt_in_label: Annotated[
        str, AfterValidator(_label_name), Field(json_schema_extra={"pattern": f"^({_LABEL_NAME})$"})
    ] = names.OPT_IN_LABEL
    """Node label by which an administrator opts a node in (value true); nothing else is touched. Under node-restriction.kubernetes.io/ no kubelet can set it on its own node. Another name later restarts every engine."""
    max_changing: Annotated[int, Field(ge=1, le=100)] = 1
    """Nodes that may be in a change at once."""
    convergence_seconds: Annotated[float, Field(gt=0)] = 180
    """How long a node may take to show its new slices before it is rolled back."""
    projection_seconds: Annotated[float, Field(ge=0)] = 90
    """How long a new configuration key is given to reach the node's volume before the label is switched."""


_PRODUCT_LABELS: dict[str, dict[str, str]] = {
    "cloud.google.com/gke-accelerator": {
        "Tesla-T4": "nvidia-tesla-t4",
        "NVIDIA-L4": "nvidia-l4",
        "Tesla-V100-SXM2-16GB": "nvidia-tesla-v100",
        "NVIDIA-A100-SXM4-40GB": "nvidia-tesla-a100",
        "NVIDIA-A100-SXM4-80GB": "nvidia-a100-80gb",
        "NVIDIA-H100-80GB-HBM3": "nvidia-h100-80gb",
        "NVIDIA-H200": "nvidia-h200-141gb",
        "NVIDIA-B200": "nvidia-b200",
    },
    "karpenter.k8s.aws/instance-gpu-name": {
        "Tesla-T4": "t4",
        "NVIDIA-A10G": "a10g",
        "NVIDIA-L4": "l4",
        "NVIDIA-L40S": "l40s",
        "Tesla-V100-SXM2-16GB": "v100",
        "NVIDIA-A100-SXM4-40GB": "a100",
        "NVIDIA-H100-80GB-HBM3": "h100",
        "NVIDIA-H200": "h200",
    },
}
"""By which clouds tell the product of a node, and their values for what nvidia.com/gpu.product calls it."""


class Packs(Part):
    """What pods that run a whole pack are made of."""

    supervisor_image: Annotated[str, Field(max_length=1024)] = ""
    """Image with the runtime zipapp, used by the pod's init container. A running pack keeps the one that it was made with until something else changes its pod. Empty: profiling.image."""
    router_image: Annotated[str, Field(min_length=1, max_length=1024)] = (
        "docker.io/library/haproxy:3.2@sha256:fa8c8825c5ca0e0f65c3fc2059b92e9d1735a640b2b38091823a959a64016c4f"
    )
    """Image of HAProxy, 2.6 or newer, that ends in order by SIGUSR1: the official one (3.2.24 of 25 September 2026, for all its platforms), or a mirror of it by digest. A running pack keeps the one that it was made with."""
    product_labels: dict[str, dict[str, str]] = _PRODUCT_LABELS
    """Labels that bind a pack to the GPU product that it was measured on, on nodes without nvidia.com/gpu.product, each with its value for products as that label names them. The first that a node has counts, by name."""


class Tenancy(Part):
    """What one namespace may not take from the others. Nodes, places for profiles and turns go round among namespaces anyway."""

    max_nodes_per_namespace: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Nodes that may be partitioned for one namespace. Default: no bound."""
    max_profiles_per_namespace: Annotated[int, Field(ge=1, le=100)] | None = None
    """Profiles of one namespace that may run at once. Default: no bound but profiling.concurrent."""
    names_of_others: bool = False
    """Let conditions name pods and deployments of other namespaces. Default: they are counted, for whoever reads a condition may not be allowed to look there."""
    max_gpu_minutes_per_profile: Annotated[float, Field(gt=0, le=1440)] = 240
    """Most GPU minutes that one profile may take, whatever its spec requests."""


NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
"""A label, as RFC 1123 has it."""


def _namespace(text: str) -> str:
    if re.fullmatch(NAMESPACE, text) is None:
        raise ValueError(f"{text!r} is no name of a namespace: give one like model-library")
    return text


def _once_each(given: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for at, name in enumerate(given) if name in given[:at]), None)
    if twice is not None:
        raise ValueError(f"{twice} stands there twice: name each namespace once, the one to look into first first")
    return given


class Profiles(Part):
    """Whose measurements are used, and how long those are kept that nobody uses."""

    library_namespaces: Annotated[
        tuple[
            Annotated[str, AfterValidator(_namespace), Field(json_schema_extra={"pattern": f"^({NAMESPACE})$"})], ...
        ],
        Field(max_length=16, json_schema_extra={"uniqueItems": True}),
        AfterValidator(_once_each),
    ] = ()
    """Namespaces whose measured SLMProfiles are used where a deployment's own namespace has none, in this order. Whoever may write an SLMProfile there decides what others deploy. Where config.namespaces is set, they must be among those."""
    retention_days: Annotated[float, Field(gt=0, le=3650)] | None = None
    """Days after which an SLMProfile is deleted that the operator made and that no SLMDeployment has used since. Those of people, and imported ones, are kept. Default: all are kept for ever."""


class AllowedGateway(Part):
    """A Gateway that routes of all served namespaces may name."""

    gateway: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")]
    """Its namespace and name: infra/public."""
    host_suffix: str = ""
    """What every host of such a route must end with; {namespace} stands for the route's own. Empty: any host."""


class Routing(Part):
    """What spec.routing may request."""

    gateways: tuple[AllowedGateway, ...] = ()
    """Gateways of other namespaces that may be named. Those of the deployment's own namespace always may."""


class Watch(Part):
    """The SLO monitor: it reads the metrics of live replicas for the condition SLOMet."""

    interval_seconds: Annotated[float, Field(ge=0)] = 60
    """How often each replica's /metrics is read. 0: never, and SLOMet is not said."""


class Prices(Part):
    """What GPUs cost, for the cost of tokens in advice. Nothing is estimated: a product without a price has no cost."""

    currency: Annotated[str, Field(pattern=tuning.CURRENCY)] = "USD"
    """Of all prices, as ISO 4217 has it."""
    per_gpu_hour: dict[
        Annotated[str, Field(min_length=1, max_length=63)],
        Annotated[float, within(tuning.PRICE_PER_GPU_HOUR), Field(allow_inf_nan=False)],
    ] = {}
    """Price of one GPU for an hour, by product as in the node label nvidia.com/gpu.product."""


class Api(Part):
    """Limits of the operator's own requests to the API server, watches not counted."""

    requests_per_second: Annotated[float, Field(gt=0)] = 150
    """Most requests per second, over a while."""
    burst: Annotated[float, Field(ge=1)] = 300
    """Most requests at once."""


class Settings(Part):
    """Everything that can be set."""

    api: Api = Api()
    """Limits of the operator's own requests to the API server."""

    defaults: Defaults = Defaults()
    """What engines have where their spec says nothing. A deployment keeps what it was made with: a change here restarts nothing, and is taken with the next change of its model, engine, accelerator or podTemplate, or by `kubectl slm upgrade`."""
    device_plugin: DevicePlugin = DevicePlugin()
    """Where NVIDIA's device plugin is."""
    profiling: Profiling = Profiling()
    """Limits of measuring."""
    packs: Packs = Packs()
    """What pods that run a whole pack are made of."""
    nodes: Nodes = Nodes()
    """Which nodes are ours to use, and how they are changed."""
    tenancy: Tenancy = Tenancy()
    """What one namespace may not take from the others."""
    profiles: Profiles = Profiles()
    """Whose measurements are used, and how long those are kept that nobody uses."""
    routing: Routing = Routing()
    """What spec.routing may request."""
    watch: Watch = Watch()
    """The SLO monitor: it reads the metrics of live replicas for the condition SLOMet."""
    prices: Prices = Prices()
    """What GPUs cost, for the cost of tokens in advice."""
    namespaces: tuple[str, ...] = ()
    """Namespaces to serve. Empty: all of them, and nodes too."""

    @model_validator(mode="after")
    def _is_opted_in_by_administrators(self) -> Self:
        written = {names.CLASS_LABEL, names.SERVES_LABEL, "nvidia.com/gpu.product", self.device_plugin.config_label}
        if self.nodes.opt_in_label in written:
            raise ValueError(
                f"nodes.optInLabel: {self.nodes.opt_in_label} is written by the operator or by NVIDIA's stack, and a node "
                "would opt in by itself: give a label of your own"
            )
        return self


class SettingsError(ValueError):
    """A settings file that cannot be used; the message names the file, the key and the remedy."""


def read_settings(path: Path | None) -> Settings:
    """Settings from a YAML file, from all of a folder, or the defaults without either. Raises SettingsError."""
    if path is None:
        return Settings()
    try:
        return Settings.model_validate(merged({file.name: file.read_text() for file in _files(path)}))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: give a file that can be read") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole file"
        said = first["msg"].removeprefix("Value error, ")
        raise SettingsError(
            f"{path}: {key}: {said}: correct it, docs/reference/chart.md lists all of `config`"
        ) from None
    except ValueError as error:
        raise SettingsError(f"{path}: no settings: {error}") from None


def _files(path: Path) -> list[Path]:
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"no file there ends in {SUFFIX}: give a folder with one, or none for the defaults")
    return files


def merged(texts: Mapping[str, str]) -> dict[str, Any]:
    """What files of settings say together, by their names: mappings key by key, of anything else the last. Raises ValueError."""
    found: dict[str, Any] = {}
    for name in sorted(texts):
        try:
            part = decode_yaml(texts[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if not isinstance(part, dict | None):
            raise ValueError(f"{name} is not a mapping of settings to their values")  # noqa: TRY004 - of what a person wrote
        found = _over(found, part or {})
    return found


def _over(before: Any, after: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return after
    return before | {name: _over(before.get(name), value) for name, value in after.items()}
