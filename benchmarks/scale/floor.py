"""The floor: how fast this control plane takes what the operator wrote, from a bare client that decides nothing.

The same objects with the same owners, labels and statuses; the same number of writes of each kind, as the audit log of the
operator's run counted them; as many at a time as the operator has workers, without its rate limit; through the same API
server, in the same process of etcd, right after the operator has gone. Nodes are closed, switched and opened as the
operator did, so that the plugins, the scheduler, the controllers and kwok have the same to do until all replicas are there.
It knows the end from the beginning and waits for nothing in between: no controller can be faster with the same writes.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from slm_operator.api import names
from slm_operator.kube.client import Client
from slm_operator.kube.errors import Unavailable
from slm_operator.kube.resources import CONFIG_MAP, DISRUPTION_BUDGET, EVENT, NODE, POD, SERVICE, WORKLOAD, Resource
from slm_operator.reconcile.loop import WORKERS as WRITERS

from tests.control_plane.gpu_fleet import GPU, PLUGIN, SLMD, SLMP, events

Marks = Mapping[str, Mapping[str, str]]
"""Labels of each node: our own, and the one that selects the plugin's configuration."""
NAMESPACE = "floor"
CHILDREN = (WORKLOAD, SERVICE, DISRUPTION_BUDGET)
CLOSED = {"spec": {"taints": [{"key": names.CHANGING_TAINT, "effect": "NoSchedule"}]}}


@dataclass(frozen=True, slots=True)
class Settled:
    """What the operator has made of a namespace, and what it has written on nodes."""

    children: Mapping[str, list[Any]]
    """Manifests by the name of their SLMDeployment."""
    statuses: Mapping[tuple[str, str], Any]
    """By kind and name."""
    marks: Marks

    @classmethod
    async def read(cls, client: Client, namespace: str) -> Self:
        """What there is now."""
        children: dict[str, list[Any]] = {}
        for resource in CHILDREN:
            for raw in await client.list(resource, namespace):
                owner = next(one["name"] for one in raw["metadata"]["ownerReferences"] if one.get("controller"))
                children.setdefault(owner, []).append(manifest_of(resource, raw))
        statuses = {
            (resource.kind, raw["metadata"]["name"]): raw.get("status") or {}
            for resource in (SLMD, SLMP)
            for raw in await client.list(resource, namespace)
        }
        return cls(children, statuses, await marks_of_nodes(client))


@dataclass(kw_only=True)
class Floor:
    """The bare client. `calls` are the operator's, by verb and resource."""

    client: Client
    before: Marks
    after: Settled
    calls: Counter[str]
    profiles: list[Any]
    served: list[Any]
    _owners: dict[str, Any] = field(default_factory=dict, init=False)
    _applied: dict[str, dict[str, int]] = field(init=False)
    """How often each child is applied, by kind and deployment."""

    def __post_init__(self) -> None:
        served = [body["metadata"]["name"] for body in self.served]
        self._applied = {
            resource.kind: dict(shares(served, self.calls[f"patch {resource.plural}"])) for resource in CHILDREN
        }

    async def clear(self, namespaces: Iterable[str]) -> None:
        """Take the cluster back to where the operator found it."""
        for namespace in namespaces:
            await emptied(self.client, namespace)
        for name, last in (await marks_of_nodes(self.client)).items():
            first = self.before[name]
            if last != first:
                labels = dict.fromkeys(last) | first
                annotations = {names.FORMER_CONFIG_ANNOTATION: None}
                patch = {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"taints": None}}
                await self.client.merge_patch(NODE, "", name, patch)
        while not all(has_whole_gpus(node) for node in await self.client.list(NODE)):  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.2)

    async def play(self) -> tuple[float, float]:
        """All writes, until all replicas are available: seconds until the last was written, and until all were there."""
        watching = asyncio.create_task(until(self.client, (WORKLOAD, NAMESPACE), is_available, len(self.served)))
        await asyncio.sleep(1)
        began = time.monotonic()
        await spread(self._create(SLMP, body) for body in self.profiles)
        await spread(self._one_after_the_other(sequence) for sequence in self._sequences())
        written = time.monotonic() - began
        await watching
        return written, time.monotonic() - began

    def _sequences(self) -> Iterator[Iterator[Awaitable[Any]]]:
        """Writes that must follow one another; sequences do not wait for each other."""
        changed = [name for name, marks in self.after.marks.items() if marks != self.before[name]]
        yield self._on_config_map(self.calls["patch configmaps"])
        for name, count in shares(changed, self.calls["patch nodes"]):
            yield self._on_node(name, count)
        for body, count in shares(self.profiles, self.calls["patch slmprofiles/status"]):
            yield self._statuses(SLMP, body, count)
        for body, count in shares(self.served, self.calls["patch slmdeployments/status"]):
            yield self._on_deployment(body, count)
        for number in range(self.calls["create events"]):
            yield iter([self.client.create(EVENT, NAMESPACE, event(number))])

    @staticmethod
    async def _one_after_the_other(sequence: Iterator[Awaitable[Any]]) -> None:
        for request in sequence:
            await request

    def _on_config_map(self, count: int) -> Iterator[Awaitable[Any]]:
        for number in range(count):
            yield self._patch(CONFIG_MAP, PLUGIN.namespace, PLUGIN.config_map, numbered(number))

    def _on_node(self, name: str, count: int) -> Iterator[Awaitable[Any]]:
        """Closed, switched, opened: three writes at least."""
        marks = self.after.marks[name]
        yield self._patch(NODE, "", name, CLOSED)
        for number in range(count - 3):
            yield self._patch(NODE, "", name, numbered(number))
        switch = {PLUGIN.config_label: marks.get(PLUGIN.config_label)}
        yield self._patch(NODE, "", name, {"metadata": {"labels": switch}})
        yield self._patch(NODE, "", name, {"metadata": {"labels": dict(marks)}, "spec": {"taints": None}})

    def _on_deployment(self, body: Any, statuses: int) -> Iterator[Awaitable[Any]]:
        name = body["metadata"]["name"]
        yield self._create(SLMD, body)
        for child in self.after.children[name]:
            for number in range(self._applied[child["kind"]][name]):
                yield self._child(child, name, number)
        yield from self._statuses(SLMD, body, statuses)

    def _statuses(self, resource: Resource, body: Any, count: int) -> Iterator[Awaitable[Any]]:
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        meta = {"name": body["metadata"]["name"], "namespace": NAMESPACE}
        status = self.after.statuses[resource.kind, body["metadata"]["name"]]
        for number in range(count):  # NB: what changes nothing is no write for etcd
            reported = status | {"observedGeneration": number + 1}
            yield self.client.apply_status(head | {"metadata": meta, "status": reported})

    async def _create(self, resource: Resource, body: Any) -> None:
        made = await self.client.create(resource, NAMESPACE, body)
        self._owners[body["metadata"]["name"]] = made["metadata"]["uid"]

    async def _child(self, manifest: Any, owner: str, number: int) -> None:
        references = [one | {"uid": self._owners[owner]} for one in manifest["metadata"]["ownerReferences"]]
        annotations = manifest["metadata"]["annotations"] | {"benchmark": str(number)}
        meta = manifest["metadata"] | {"ownerReferences": references, "annotations": annotations}
        await self.client.apply(manifest | {"metadata": meta}, force=False)

    async def _patch(self, resource: Resource, namespace: str, name: str, patch: Any) -> None:
        await self.client.merge_patch(resource, namespace, name, patch)


async def spread(requests: Iterable[Awaitable[Any]]) -> None:
    """All requests, a few at a time."""
    left = iter(requests)

    async def send() -> None:
        for request in left:
            await request

    await asyncio.gather(*(send() for _ in range(WRITERS)))


async def until(
    client: Client, place: tuple[Resource, str], good: Callable[[Any], bool], count: int, name: str = ""
) -> None:
    """Wait until so many objects are good."""
    found: set[str] = set()
    async for kind, raw in events(client, *place):
        its = raw["metadata"]["name"]
        if kind != "DELETED" and good(raw) and name in {"", its}:
            found.add(its)
        else:
            found.discard(its)
        if len(found) == count:
            return


async def emptied(client: Client, namespace: str) -> None:
    """Delete everything in a namespace and wait until all that hung on it is gone."""
    while left := [
        kind for kind in (SLMD, SLMP, POD, WORKLOAD, SERVICE, DISRUPTION_BUDGET) if await client.list(kind, namespace)
    ]:
        for kind in [kind for kind in left if kind in {SLMD, SLMP} or left == [POD]]:
            with contextlib.suppress(Unavailable):  # NB: a thousand take longer than one request may
                params = {"gracePeriodSeconds": "0"} if kind is POD else {}
                await client._object("DELETE", kind.path(namespace), ("deletecollection", kind.plural), params=params)  # noqa: SLF001
        await asyncio.sleep(1)


def shares(things: list[Any], total: int) -> Iterator[tuple[Any, int]]:
    """Each thing with its part of a total, as even as whole numbers are."""
    for number, thing in enumerate(things):
        yield thing, total * (number + 1) // len(things) - total * number // len(things)


def manifest_of(resource: Resource, raw: Any) -> Any:
    """An object that the operator made, as a manifest for the floor's namespace."""
    kept = {name: raw["metadata"][name] for name in ("name", "labels", "annotations", "ownerReferences")}
    own_address = {"clusterIP", "clusterIPs"} if raw["spec"].get("clusterIP") != "None" else set()
    spec = {name: value for name, value in raw["spec"].items() if name not in own_address}
    head = {"apiVersion": resource.api_version, "kind": resource.kind}
    return head | {"metadata": kept | {"namespace": NAMESPACE}, "spec": spec}


def is_available(raw: Any) -> bool:
    """Whether a Deployment has all replicas."""
    status = raw.get("status") or {}
    return status.get("availableReplicas", 0) >= raw["spec"]["replicas"] and bool(status.get("observedGeneration"))


async def marks_of_nodes(client: Client) -> Marks:
    """What is written on nodes for the operator's sake."""
    return {
        raw["metadata"]["name"]: {
            name: value
            for name, value in raw["metadata"]["labels"].items()
            if name == PLUGIN.config_label or name.startswith(f"{names.GROUP}/")
        }
        for raw in await client.list(NODE)
    }


def has_whole_gpus(node: Any) -> bool:
    """Whether a node's GPUs are not partitioned."""
    return node["status"]["allocatable"].get(GPU, "0") != "0"


def numbered(number: int) -> Any:
    """A patch that changes something and means nothing."""
    return {"metadata": {"annotations": {"benchmark": str(number)}}}


def event(number: int) -> Any:
    """An event as the operator writes them."""
    regarding = {"apiVersion": SLMD.api_version, "kind": SLMD.kind, "namespace": NAMESPACE, "name": f"d{number}"}
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"e{number}"},
        "regarding": regarding,
        "type": "Normal",
        "reason": "Benchmark",
        "action": "Benchmark",
        "note": "as many as the operator wrote",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "benchmark",
        "reportingInstance": "benchmark",
    }
