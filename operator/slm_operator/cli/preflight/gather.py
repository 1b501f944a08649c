"""Looks at a cluster for `kubectl slm check`, as far as this user may. Reads only, and keeps no secret: none is asked for.

A right that is missing makes a fact `Unseen`; an API server that does not answer ends the command.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slm_core.sharing import AUTO

from slm_operator.api import names
from slm_operator.api.conditions import moment
from slm_operator.api.crd import KINDS
from slm_operator.cli.cluster import DAEMON_SET, DEPLOYMENT, LEASE_NAME, NAMESPACE, Cluster
from slm_operator.cli.preflight.doors import doors
from slm_operator.cli.preflight.facts import Facts, Installed, LeaseSeen, Node, Unseen, Wish
from slm_operator.cli.preflight.installation import OPERATOR_SELECTOR, config_map, may, operators_of, settings_of
from slm_operator.cli.preflight.packs import autoscalers_in, packs_in
from slm_operator.cli.preflight.rights import missing
from slm_operator.cli.preflight.schema import OPENAPI_PATH, compare
from slm_operator.cli.preflight.stack import daemon_set
from slm_operator.decoding import decode
from slm_operator.defaults import read_kept
from slm_operator.kube.errors import Forbidden, NotFound
from slm_operator.kube.resources import AUTOSCALER, LEASE, NODE, POD, WORKLOAD
from slm_operator.planning.deployment.kept import older, resolved
from slm_operator.planning.fleet.demand import tolerations_given
from slm_operator.planning.fleet.node.states import node_states
from slm_operator.planning.fleet.tolerations import tolerations_of
from slm_operator.planning.views import FleetView
from slm_operator.watch import custom_resources, projection
from slm_operator.watch.records import ConfigMapRecord, Key, Meta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slm_operator.cli.preflight.facts import SchemaSeen
    from slm_operator.cli.preflight.packs import Autoscaler, PackSeen
    from slm_operator.cli.preflight.stack import DaemonSet
    from slm_operator.defaults import Defaults
    from slm_operator.settings import Settings
    from slm_operator.watch.records import DeploymentRecord

RENEWAL_SECONDS = 3.5
"""A little longer than the operator takes to renew its Lease."""


async def gather(cluster: Cluster) -> Facts:
    """Everything that the checks look at."""
    client = cluster.client
    operators = await may(operators_of(cluster), "list deployments")
    settings, doubt = await settings_of(cluster, operators)
    plugin = settings.device_plugin
    served, version, schema, lease, lacking = await asyncio.gather(
        client.served(names.API_VERSION),
        _version(cluster),
        may(_schema(cluster), f"get {OPENAPI_PATH}"),
        may(_lease(cluster, operators), "get leases"),
        missing(cluster, operators, settings),
    )
    raws, pods, daemon_sets, config, wishes, libraries = await asyncio.gather(
        may(client.list(NODE), "list nodes"),
        may(client.list(POD, plugin.namespace), f"list pods in namespace {plugin.namespace}"),
        may(client.list(DAEMON_SET), "list daemonsets"),
        may(
            config_map(cluster, plugin.namespace, plugin.config_map), f"get configmaps in namespace {plugin.namespace}"
        ),
        may(_wishes(cluster, settings.defaults), "list slmdeployments"),
        _libraries(cluster, settings.profiles.library_namespaces),
    )
    seen = () if isinstance(pods, Unseen) else pods
    texts = {} if config is None or isinstance(config, Unseen) else config
    packs, autoscalers = await asyncio.gather(
        may(_packs(cluster), "list deployments"), may(_autoscalers(cluster), "list horizontalpodautoscalers")
    )
    closed = await may(
        doors(cluster, OPERATOR_SELECTOR), "list networkpolicies, resourcequotas and validatingadmissionpolicies"
    )
    return Facts(
        namespace=cluster.namespace,
        server=version,
        missing_kinds=tuple(kind.kind for kind in KINDS if kind.plural not in served),
        schema=schema,
        operators=operators,
        lease=lease,
        settings=settings,
        settings_doubt=doubt,
        rights_missing=lacking,
        nodes=raws if isinstance(raws, Unseen) else _nodes(raws, seen, texts, settings),
        plugin_pods_seen=not isinstance(pods, Unseen),
        daemon_sets=daemon_sets if isinstance(daemon_sets, Unseen) else _stack(daemon_sets),
        plugin_config=config,
        wishes=wishes,
        packs=packs,
        autoscalers=autoscalers,
        doors=closed,
        libraries=libraries,
    )


async def _version(cluster: Cluster) -> str:
    try:
        return str(decode(await cluster.client.page("/version")).get("gitVersion") or "")
    except (Forbidden, NotFound, ValueError):
        return ""


async def _schema(cluster: Cluster) -> SchemaSeen:
    try:
        return compare(decode(await cluster.client.page(OPENAPI_PATH)))
    except NotFound:
        return compare({})


async def _lease(cluster: Cluster, operators: tuple[Installed, ...] | Unseen) -> LeaseSeen | None:
    if isinstance(operators, Unseen) or not operators:
        return None
    try:
        lease = await cluster.client.get(LEASE, operators[0].namespace, LEASE_NAME)
        seen = lease_seen(lease, datetime.now(UTC))
        if seen.renewing or not seen.holder:
            return seen
        await asyncio.sleep(RENEWAL_SECONDS)
        again = await cluster.client.get(LEASE, operators[0].namespace, LEASE_NAME)
    except NotFound:
        return None
    renewed = again["metadata"].get("resourceVersion") != lease["metadata"].get("resourceVersion")
    return LeaseSeen(holder=seen.holder, age_seconds=seen.age_seconds, renewing=renewed)


def lease_seen(raw: dict[str, Any], now: datetime) -> LeaseSeen:
    """A Lease at a moment. NB: the clocks of two machines differ: an age out of bounds is a reason to look again."""
    spec = raw.get("spec") or {}
    renewed = moment(spec.get("renewTime"))
    age_seconds = (now - renewed).total_seconds() if renewed is not None else float("inf")
    duration = float(spec.get("leaseDurationSeconds") or 0)
    return LeaseSeen(
        holder=spec.get("holderIdentity") or "", age_seconds=age_seconds, renewing=abs(age_seconds) <= duration
    )


def _stack(raws: Iterable[dict[str, Any]]) -> tuple[DaemonSet, ...]:
    return tuple(one for one in map(daemon_set, raws) if one is not None)


def _nodes(
    raws: Sequence[dict[str, Any]], pods: Iterable[dict[str, Any]], texts: Mapping[str, str], settings: Settings
) -> tuple[Node, ...]:
    """The nodes as the operator sees them."""
    plugin = settings.device_plugin
    project = projection.daemons_of(plugin.namespace)
    view = FleetView(
        demands=(),
        nodes=tuple(map(projection.node, raws)),
        daemons=tuple(one for one in map(project, pods) if one is not None),
        config_map=ConfigMapRecord(meta=Meta(key=Key(plugin.namespace, plugin.config_map), uid=""), data=texts),
    )
    infos = {raw["metadata"]["name"]: (raw.get("status") or {}).get("nodeInfo") or {} for raw in raws}
    return tuple(
        Node(state=one, kubelet=str(infos[one.name].get("kubeletVersion") or "")) for one in node_states(view, settings)
    )


async def _libraries(cluster: Cluster, asked: Iterable[str]) -> dict[str, bool | Unseen]:
    """NB: each is asked for alone: who has a role in a namespace may get it, and few may list all of them."""

    async def exists(name: str) -> bool:
        try:
            return bool(await cluster.client.get(NAMESPACE, "", name))
        except NotFound:
            return False

    return {name: await may(exists(name), f"get namespace {name}") for name in asked}


async def _packs(cluster: Cluster) -> tuple[PackSeen, ...]:
    ours = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY}"
    return packs_in(await cluster.client.list(WORKLOAD, cluster.namespace, selector=ours))


async def _autoscalers(cluster: Cluster) -> tuple[Autoscaler, ...]:
    return autoscalers_in(await cluster.client.list(AUTOSCALER, cluster.namespace))


async def _wishes(cluster: Cluster, now: Defaults) -> tuple[Wish, ...]:
    try:
        found = await cluster.client.list(DEPLOYMENT)
    except NotFound:
        return ()
    return tuple(_wish(custom_resources.deployment(raw), now) for raw in found)


def _wish(record: DeploymentRecord, now: Defaults) -> Wish:
    """NB: one that the operator has not looked at yet keeps no defaults, and will have those of now."""
    kept, whole = read_kept(record.status.get("defaults")), resolved(record, None, now)
    if whole.spec is None:
        return Wish(name=str(record.meta.key), mode=AUTO)
    return Wish(
        name=str(record.meta.key),
        mode=whole.spec.sharing.mode,
        image=whole.spec.engine.image or "",
        tolerations=tolerations_of(tolerations_given(whole.spec, whole.defaults)),
        older=older(record, kept, now) if kept is not None else (),
    )
