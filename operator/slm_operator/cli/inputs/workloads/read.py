"""The engine that somebody asks about: of an object in a file, or of one in the cluster, with the user's own rights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import as_written
from slm_operator.cli.inputs.workloads import kserve
from slm_operator.cli.inputs.workloads.base import RunningEngine, Subject
from slm_operator.cli.inputs.workloads.containers import part, the_engine
from slm_operator.cli.inputs.workloads.registry import NAMES, RUNTIMES, Kind, kind_named, kind_of
from slm_operator.kube.errors import NotFound
from slm_operator.visible import visible_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_operator.cli.cluster import Cluster
    from slm_operator.cli.inputs.workloads.base import Raw

_IN_CLUSTER = re.compile(r"([A-Za-z][\w.-]*)/([^/]+)")


@dataclass(frozen=True, slots=True)
class Found:
    """An object that runs an engine, with those that belong to it."""

    kind: Kind
    raw: Raw
    beside: Sequence[Raw] = ()

    def engine(self, patched: Raw | None = None) -> RunningEngine:
        """What it runs; `patched`: what it would run as that. Raises Refused."""
        raw = self.raw if patched is None else patched
        subject = _subject(raw)
        return the_engine(subject, self.kind.read(subject, raw, self.beside))


def in_cluster(what: str) -> tuple[Kind, str] | None:
    """The kind and name that `--for` says; None where it says a file. Raises Refused for a kind that is not known here."""
    found = _IN_CLUSTER.fullmatch(what)
    if found is None or Path(what).exists():
        return None
    kind = kind_named(found[1])
    if kind is None and Path(what).suffix == "":
        raise Refused(
            f"--for {what}: {found[1]} is no kind that is known here, and there is no such file: give one of {NAMES}"
        )
    return None if kind is None else (kind, found[2])


def of_file(filename: str) -> Found:
    """The one workload of a file. Raises Refused."""
    raws: list[Raw] = []
    for raw in as_written(filename):
        listed = raw.get("items") if isinstance(raw, dict) and raw.get("kind") == "List" else None
        raws += [one for one in (listed if isinstance(listed, list) else [raw]) if isinstance(one, dict)]
    found = [(kind, raw) for raw in raws if (kind := kind_of(raw)) is not None]
    if len(found) > 1:
        # Whoever keeps a model in one file keeps what else belongs to it there too: it is the one with an engine.
        running = [(kind, raw) for kind, raw in found if _runs(kind, raw, raws)]
        found = running or found
    if not found:
        kinds = ", ".join(sorted({str(raw.get("kind")) for raw in raws if raw.get("kind")})) or "nothing"
        raise Refused(f"{filename}: no workload that may run an engine in it ({kinds}): give one of {NAMES}")
    if len(found) > 1:
        names = " and ".join(f"{raw.get('kind')} {part(raw, 'metadata').get('name')}" for _, raw in found)
        raise Refused(f"{filename}: {names}: give one of them")
    ((kind, raw),) = found
    return Found(kind, visible_in(raw), [visible_in(one) for one in raws if one is not raw])


def _runs(kind: Kind, raw: Raw, raws: Sequence[Raw]) -> bool:
    try:
        Found(kind, raw, raws).engine()
    except Refused:
        return False
    return True


async def of_cluster(cluster: Cluster, kind: Kind, name: str) -> Found:
    """The object, with its runtime where it has one. Raises Refused, and what the API server answers."""
    raw = await _object(cluster, kind.resource, name)
    if kind.read is not kserve.inference_service or not kserve.needs_runtime(raw):
        return Found(kind, raw)
    named = kserve.runtime_of(raw)
    if named is None:
        raise Refused(
            f"InferenceService {name} names no runtime: set spec.predictor.model.runtime, which KServe would choose otherwise"
        )
    for resource in RUNTIMES:
        try:
            runtime = await cluster.client.get(resource, cluster.namespace if resource.namespaced else "", named)
        except NotFound:
            continue
        return Found(kind, raw, [{"kind": resource.kind} | runtime])
    raise Refused(
        f"InferenceService {name}: its runtime {named} does not exist: `kubectl get servingruntimes` lists them"
    )


async def _object(cluster: Cluster, resource: Any, name: str) -> Raw:
    try:
        raw = await cluster.client.get(resource, cluster.namespace, name)
    except NotFound:
        raise Refused(
            f"there is no {resource.kind} {name} in namespace {cluster.namespace}: `kubectl get {resource.plural} -A` lists what there is"
        ) from None
    return {"apiVersion": resource.api_version, "kind": resource.kind} | raw


def _subject(raw: Raw) -> Subject:
    metadata = part(raw, "metadata")
    namespace = metadata.get("namespace")
    return Subject(
        api_version=str(raw.get("apiVersion")),
        kind=str(raw.get("kind")),
        name=str(metadata.get("name") or "?"),
        namespace=namespace if isinstance(namespace, str) else None,
    )
