"""kwok nodes with GPUs whose device plugin obeys its label, and objects to fill them: for runs of scale, churn and faults.

The plugin here does in milliseconds what the stand-in on kind does with NVIDIA's timing: a changed configuration label
loads that key of the ConfigMap, and the node shows the new labels and resources. Under MPS it waits for a daemon for ever.
It must never touch anything of a node but the labels and resources that NVIDIA's stack owns.
"""

import asyncio
import contextlib
import gc
import json
import threading
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from slm_core.codec import to_json
from slm_operator.assembly import own_resources
from slm_operator.kube.client import MERGE, Client
from slm_operator.kube.connection import Connection, connect
from slm_operator.kube.errors import Conflict
from slm_operator.kube.resources import CONFIG_MAP, NODE, Resource
from slm_operator.settings import DevicePlugin

from tests import builders as build
from tests.standin.config import parse
from tests.standin.labels import feature_labels
from tests.standin.settings import Hardware
from tests.testbed.cluster import apply_crds
from tests.testbed.control_plane import ControlPlane

ROOT = Path(__file__).parents[2]
PLUGIN = DevicePlugin()
TLS_CLOSE_SECONDS = 0.3
"""aiohttp, "Graceful shutdown": a TLS connection that was cut in a watch needs a moment after its session was closed."""
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
MODEL = {"uri": "hf://facebook/opt-1.3b"}
API_VERSION = "slm-operator.io/v1alpha1"
SLMD = Resource(API_VERSION, "SLMDeployment", "slmdeployments")
SLMP = Resource(API_VERSION, "SLMProfile", "slmprofiles")


def install(plane: ControlPlane) -> None:
    """The CRDs, the plugin's ConfigMap, and a DaemonSet with the containers that the operator looks for."""
    apply_crds(plane, ROOT / "crds")
    head = {"namespace": PLUGIN.namespace}
    labels = {"app.kubernetes.io/name": "nvidia-device-plugin", "app.kubernetes.io/component": "device-plugin"}
    containers = [
        {"name": name, "image": "none"} for name in ("nvidia-device-plugin-ctr", "nvidia-device-plugin-sidecar")
    ]
    pod = {"metadata": {"labels": labels}, "spec": {"containers": containers, "tolerations": [{"operator": "Exists"}]}}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PLUGIN.namespace}},
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": head | {"name": PLUGIN.config_map},
            "data": {"default": "version: v1\n"},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": head | {"name": "nvidia-device-plugin"},
            "spec": {"selector": {"matchLabels": labels}, "template": pod},
        },
    ]
    for one in objects:
        plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(one))


def add_gpu_nodes(plane: ControlPlane, count: int, *, gpus: int, prefix: str = "gpu") -> list[str]:
    """Opted-in nodes with unshared GPUs."""
    labels = {"slm-operator.io/managed": "true"} | shown_labels("version: v1", gpus)
    return plane.add_kwok_nodes(count, prefix=prefix, labels=labels, resources={GPU: gpus, SHARED: 0})


def shown_labels(config: str, gpus: int) -> dict[str, str]:
    """What feature discovery writes under a configuration."""
    labels = feature_labels(parse(config), Hardware(count=gpus), timestamp_s=0)
    return {name: value for name, value in labels.items() if name.startswith("nvidia.com/")}


def slm_profile(name: str) -> dict[str, Any]:
    """An imported SLMProfile."""
    return build.manifest("SLMProfile", name, {"model": MODEL, "measurements": to_json(build.imported())})


def slm_deployment(name: str, profile: str, *, slices: int = 1, replicas: int = 1) -> dict[str, Any]:
    """An SLMDeployment: with a whole GPU a replica, or with one of `slices` that neighbours share."""
    whole = {"mode": "Exclusive"}
    cut = {"mode": "TimeSlicing", "enginesPerGpu": slices, "tenancy": "Shared"}
    spec = {
        "model": MODEL,
        "profiling": {"policy": "Never", "profileRef": {"name": profile}},
        "sharing": whole if slices == 1 else cut,
        "replicas": replicas,
    }
    return build.manifest("SLMDeployment", name, spec)


def is_ready(raw: Mapping[str, Any]) -> bool:
    """Whether an SLMDeployment is Ready in its present generation."""
    status = raw.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    return conditions.get("Ready") == "True" and status.get("observedGeneration") == raw["metadata"]["generation"]


@contextlib.asynccontextmanager
async def bare_client(kubeconfig: Path, name: str) -> AsyncIterator[Client]:
    """A client without limits, which the audit log shows under this name."""
    connection = await connect(kubeconfig)
    connection.session().headers["User-Agent"] = name
    try:
        yield Client(connection, own_resources(), name)
    finally:
        await connection.close()
        await asyncio.sleep(TLS_CLOSE_SECONDS)


async def events(client: Client, resource: Resource, namespace: str = "") -> AsyncIterator[tuple[str, Any]]:
    """Every object there is and every change after, as (type, object); begins anew when the watch is cut."""
    connection = client.transport
    assert isinstance(connection, Connection)
    url, session = connection.server + resource.path(namespace), connection.session()
    while True:
        try:
            async with session.get(url) as answer:
                page = await answer.json()
            for raw in page["items"]:
                yield "LISTED", raw
            version = page["metadata"]["resourceVersion"]
            params = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
            timeout = aiohttp.ClientTimeout(total=None)
            async with session.get(url, params=params, timeout=timeout, read_bufsize=1 << 22) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    yield event["type"], event["object"]
        except (aiohttp.ClientError, OSError, KeyError, ValueError):
            await asyncio.sleep(0.2)


@dataclass
class Plugins:
    """The device plugins of all nodes."""

    client: Client
    loaded: dict[str, str] = field(default_factory=dict)
    switches: int = 0

    async def run(self) -> None:
        async for kind, raw in events(self.client, NODE):
            if kind == "DELETED":
                self.loaded.pop(raw["metadata"]["name"], None)
            elif kind != "BOOKMARK":
                await self._obey(raw)

    async def _obey(self, raw: Any) -> None:
        name, labels = raw["metadata"]["name"], raw["metadata"].get("labels") or {}
        key = labels.get(PLUGIN.config_label, "default")
        if self.loaded.get(name, "default") == key:
            return
        config = await self.client.get(CONFIG_MAP, PLUGIN.namespace, PLUGIN.config_map)
        text = config["data"].get(key)
        if text is None:
            return  # as upstream: it crash-loops until the label changes again
        self.loaded[name], gpus = key, int(labels["nvidia.com/gpu.count"])
        sharing = parse(text).sharing
        shares = gpus * sharing.replicas if sharing.strategy != "none" else 0
        served = 0 if sharing.strategy == "mps" else shares
        amounts = {GPU: str(0 if shares else gpus), SHARED: str(served)}
        await self._patch(name, "status", {"status": {"capacity": amounts, "allocatable": amounts}})
        await self._patch(name, "", {"metadata": {"labels": shown_labels(text, gpus)}})
        self.switches += 1

    async def _patch(self, name: str, subresource: str, patch: Any) -> None:
        path = NODE.path("", name, subresource)
        with contextlib.suppress(Conflict):
            await self.client._object("PATCH", path, ("patch", "nodes"), body=patch, content_type=MERGE)


@contextlib.contextmanager
def tls_left_to_the_collector() -> Iterator[None]:
    """To close clients in. NB: a TLS transport that waits for its peer's farewell when its loop ends is ended by nobody but
    the collector, in Python 3.11 with a warning in the middle of whichever test: here it comes at once, and is no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@contextlib.contextmanager
def plugins(plane: ControlPlane) -> Iterator[None]:
    """All device plugins, in a thread of their own."""
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with bare_client(plane.kubeconfig, "device-plugin") as client:
            await Plugins(client).run()

    task = loop.create_task(run())

    def play() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        with tls_left_to_the_collector():
            loop.call_soon_threadsafe(task.cancel)
            thread.join()
