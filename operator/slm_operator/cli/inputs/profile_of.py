"""Which profile of the cluster a manifest would be decided from, as the operator finds it (`reconcile.gather.profile_of`).

The one that spec names; else by its key: measured in the manifest's namespace, else in a library, else not yet. Libraries
stand in the operator's settings, which few may read: what could not be looked at is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.cli.cluster import PROFILE, Cluster
from slm_operator.cli.errors import Refused
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.installation import may, operator_settings, operators_of, settings_of
from slm_operator.kube.errors import NotFound
from slm_operator.manifests.profile import profile_name, profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.planning.deployment.kept import resolved
from slm_operator.planning.profile.resting import newest
from slm_operator.watch import custom_resources

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.deployment import SLMDeploymentSpec
    from slm_operator.watch.records import ProfileRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found of it."""

    name: str
    """Of the profile, or of the one that would be made."""
    document: MeasurementDocument | None = None
    phase: str = ""
    """Of one that is there and not measured yet; empty: there is none."""
    unseen: str = ""
    """Where it was not looked, and why."""


async def profile_of(cluster: Cluster, manifest: dict[str, Any], spec: SLMDeploymentSpec) -> Found:
    """Look for it. Raises Refused where every one that was measured cannot be read."""
    named = spec.profiling.profile_name
    if named is not None:
        try:
            return rested_on([custom_resources.profile(await cluster.profile(named))], named)
        except NotFound:
            return Found(name=named)
    spec = await _with_defaults(cluster, manifest, spec)
    return await profile_with(cluster, profile_key(profile_spec(spec)), profile_name(spec))


async def _with_defaults(cluster: Cluster, manifest: dict[str, Any], spec: SLMDeploymentSpec) -> SLMDeploymentSpec:
    """The spec with those that an object of its name keeps, else with those of the operator, else of this command."""
    name = str((manifest.get("metadata") or {}).get("name") or "")
    try:
        there = await may(cluster.deployment(name), "get slmdeployments") if name else {}
    except NotFound:
        there = {}
    seen = {} if isinstance(there, Unseen) else there
    there_too = {"metadata": {"name": name} | seen.get("metadata", {}), "status": seen.get("status") or {}}
    settings, _ = await operator_settings(cluster)
    return resolved(custom_resources.deployment(manifest | there_too), None, settings.defaults).spec or spec


async def profile_with(cluster: Cluster, key: str, name: str) -> Found:
    """The one with this key, here or in a library. `name`: of the one that would be made. Raises Refused as `profile_of`."""
    own = rested_on(await _keyed(cluster, cluster.namespace, key), name)
    if own.document is not None:
        return own
    libraries, unseen = await _libraries(cluster)
    for library in libraries:
        records = await may(_keyed(cluster, library, key), f"list slmprofiles in library namespace {library}")
        if isinstance(records, Unseen):
            unseen = unseen or f"no right to {records.right}"
        elif (found := rested_on(records, "")).document is not None:
            return found
    return Found(name=own.name, phase=own.phase, unseen=unseen)


def rested_on(records: Iterable[ProfileRecord], name: str) -> Found:
    """Of several with one key the one that the operator rests on. `name`: where there is none."""
    found = sorted(records, key=lambda one: one.meta.key)
    best = max(found, key=newest, default=None)
    if best is None:
        return Found(name=name)
    if best.measurements is not None:
        return Found(name=best.meta.key.name, document=best.measurements)
    broken = next((one for one in found if one.broken is not None), None)
    if broken is not None:
        raise Refused(f"SLMProfile {broken.meta.key.name}: {broken.broken}")
    return Found(name=best.meta.key.name, phase=str(best.status.get("phase") or "Pending"))


async def _keyed(cluster: Cluster, namespace: str, key: str) -> list[ProfileRecord]:
    """NB: a profile whose spec this version cannot read is none of ours."""
    found = map(custom_resources.profile, await cluster.client.list(PROFILE, namespace))
    return [one for one in found if one.spec is not None and profile_key(one.spec) == key]


async def _libraries(cluster: Cluster) -> tuple[Sequence[str], str]:
    """Namespaces of libraries, and why they are not known."""
    operators = await may(operators_of(cluster), "list deployments in all namespaces")
    if isinstance(operators, Unseen):
        return (), f"no right to {operators.right}"
    settings, doubt = await settings_of(cluster, operators)
    return settings.profiles.library_namespaces, doubt if operators else ""
