"""Caches, executor and loop around a server that only remembers what it was asked."""

import copy
import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from slm_operator.api import names
from slm_operator.assembly import own_resources
from slm_operator.kube.errors import ApiError, Conflict, NotFound
from slm_operator.reconcile.execute import Executor
from slm_operator.reconcile.indexes import ProfileKeys, caches_for_planning
from slm_operator.reconcile.pending_writes import Ledger
from slm_operator.reconcile.queue import WorkKey
from slm_operator.settings import Settings
from slm_operator.watch.records import DeploymentRecord, Key
from slm_operator.watch.watch_list import watched_kinds
from slm_operator.watch.world import World

from tests.builders import deployment

KEY = Key("team", "d")
WORK = WorkKey("deployment", KEY)


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.seconds)


class Server:
    """Keeps objects as the API server would: versions, our managed fields, uids. `refuse` answers instead."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.applied_by: dict[str, dict[str, Any]] = {}
        """What managers other than the operator's usual one applied last."""
        self.refuse: ApiError | None = None
        self.resources = own_resources()
        self._versions = itertools.count(100)

    async def apply(self, manifest: dict[str, Any], *, force: bool, manager: str = "") -> dict[str, Any]:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self._ask("apply --force" if force else "apply", f"{kind} {name}")
        old = self.objects.get((kind, name))
        if manager:
            self.applied_by[manager] = manifest
            return self._store(kind, name, {**(old or {}), **manifest}, old)
        if old is not None and not force:
            raise Conflict("conflict with manager kubectl: .spec.ports", 409)
        return self._store(kind, name, manifest, old)

    async def apply_status(self, manifest: dict[str, Any]) -> dict[str, Any]:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self._ask("apply status", f"{kind} {name}")
        old = self.objects.get((kind, name), {"metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"}})
        return self._store(kind, name, {**old, "status": manifest["status"]}, old)

    async def get(self, resource: Any, namespace: str, name: str) -> dict[str, Any]:
        self._ask("get", f"{resource.kind} {name}")
        try:
            return copy.deepcopy(self.objects[resource.kind, name])
        except KeyError:
            raise NotFound(f"{resource.plural} {name} not found", 404) from None

    async def list(
        self, resource: Any, namespace: str = "", selector: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        self._ask("list", f"{resource.kind} {fields}")
        named = fields.removeprefix("metadata.name=") if fields.startswith("metadata.name=") else None
        return [raw for (kind, name), raw in self.objects.items() if kind == resource.kind and named in {None, name}]

    async def merge_patch(self, resource: Any, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        self._ask("patch", f"{resource.kind} {name}")
        return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(next(self._versions))}}

    async def delete(self, resource: Any, namespace: str, name: str, uid: str) -> None:
        self._ask("delete", f"{resource.kind} {name}")

    async def evict(self, namespace: str, name: str, uid: str) -> None:
        self._ask("evict", f"Pod {name}")

    def taken_by_another(self, kind: str, name: str) -> dict[str, Any]:
        raw = self.objects[kind, name]
        raw["metadata"]["managedFields"][0]["fieldsV1"] = {}
        raw["metadata"]["resourceVersion"] = str(next(self._versions))
        return raw

    def _ask(self, verb: str, what: str) -> None:
        self.asked.append((verb, what))
        if self.refuse is not None:
            raise self.refuse

    def _store(self, kind: str, name: str, body: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        raw = copy.deepcopy(body)
        fields = {f"f:{part}": {} for part in body if part not in {"apiVersion", "kind", "metadata", "status"}}
        raw["metadata"] |= {
            "uid": f"uid-{name}",
            "resourceVersion": str(next(self._versions)),
            "managedFields": [
                {
                    "manager": names.FIELD_MANAGER,
                    "operation": "Apply",
                    "time": "2026-01-01T00:00:05Z",
                    "fieldsV1": fields,
                }
            ],
        }
        self.objects[kind, name] = raw
        return copy.deepcopy(raw)


class Recorder:
    def emit(self, *_: Any) -> bool:
        return True


@dataclass
class Bench:
    """All of it, with a cache that shows writes only when asked to."""

    server: Server = field(default_factory=Server)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.keys = ProfileKeys(Settings().defaults)
        self.caches = caches_for_planning(self.keys, Settings())
        caches: dict[str, Any] = {
            names.DEPLOYMENT_KIND: self.caches.deployments,
            "Node": self.caches.nodes,
            "Pod": self.caches.pods,
            "Service": self.caches.owned["Service"],
            "ConfigMap": self.caches.config_maps,
        }
        self.ledger = Ledger(caches, self.clock)
        client: Any = self.server
        recorder: Any = Recorder()
        self.executor = Executor(client=client, recorder=recorder, caches=self.caches, ledger=self.ledger)
        self.free: list[WorkKey] = []
        self.echoes: list[WorkKey] = []
        self.world = World(watched_kinds(self.caches, Settings()), self._changed)

    def _changed(self, change: Any) -> None:
        free, echoes = self.ledger.confirmed_by(change)
        self.free += free
        self.echoes += echoes

    def show(self, kind: str, name: str) -> None:
        """The watch brings the object as it is on the server now."""
        self.world.see(kind, "MODIFIED", copy.deepcopy(self.server.objects[kind, name]))

    def restart(self) -> "Bench":
        """A new process: the same server and what its watch lists, none of the memory."""
        again = Bench(server=self.server)
        for (kind, _), raw in self.server.objects.items():
            if kind in again.world.watched:
                again.world.see(kind, "ADDED", copy.deepcopy(raw))
        return again

    def deployment(self, status: dict[str, Any] | None = None, *, version: int = 1) -> DeploymentRecord:
        record = deployment("d", spec=None, status=status or {})
        record = replace(record, meta=replace(record.meta, resource_version=str(version)))
        self.caches.deployments.put(record)
        return record
