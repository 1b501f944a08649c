"""Which profile of the cluster a manifest would be decided from, as the operator finds it (`reconcile.gather.profile_of`).

The one that spec names; else by its key: measured in the manifest's namespace, else in a library, else not yet. Libraries
stand in the operator's settings, which few may read: what could not be looked at is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from slm_operator.api.profile import SLMProfileSpec
from slm_operator.cli.cluster import PROFILE, Cluster
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.files import measured
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.installation import may, operators_of, settings_of
from slm_operator.kube.errors import NotFound
from slm_operator.manifests.profile import profile_name, profile_spec
from slm_operator.manifests.profile_key import profile_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.deployment import SLMDeploymentSpec

    Raw = dict[str, Any]


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


async def profile_of(cluster: Cluster, spec: SLMDeploymentSpec) -> Found:
    """Look for it. Raises Refused where every one that was measured cannot be read."""
    named = spec.profiling.profile_name
    if named is not None:
        try:
            return newest([await cluster.profile(named)], named)
        except NotFound:
            return Found(name=named)
    key = profile_key(profile_spec(spec))
    own = newest(await _keyed(cluster, cluster.namespace, key), profile_name(spec))
    if own.document is not None:
        return own
    libraries, unseen = await _libraries(cluster)
    for library in libraries:
        raws = await may(_keyed(cluster, library, key), f"list slmprofiles in library namespace {library}")
        if isinstance(raws, Unseen):
            unseen = unseen or f"no right to {raws.right}"
        elif (found := newest(raws, "")).document is not None:
            return found
    return Found(name=own.name, phase=own.phase, unseen=unseen)


def newest(raws: Sequence[Raw], name: str) -> Found:
    """Of several with one key the one that was measured last, and is not being deleted. `name`: where there is none."""
    documents, refusals = [], []
    for raw in raws:
        try:
            document = measured(raw, f"SLMProfile {raw['metadata']['name']}")
        except Refused as error:
            refusals.append(error)
            continue
        if document is not None:
            documents.append((raw, document))
    if documents:
        raw, document = max(documents, key=lambda one: (not _is_deleting(one[0]), one[1].measured_at or ""))
        return Found(name=raw["metadata"]["name"], document=document)
    if refusals:
        raise refusals[0]
    if not raws:
        return Found(name=name)
    first = min(raws, key=_is_deleting)
    return Found(name=first["metadata"]["name"], phase=str((first.get("status") or {}).get("phase") or "Pending"))


def _is_deleting(raw: Raw) -> bool:
    return bool(raw["metadata"].get("deletionTimestamp"))


async def _keyed(cluster: Cluster, namespace: str, key: str) -> list[Raw]:
    return [one for one in await cluster.client.list(PROFILE, namespace) if _key_of(one) == key]


def _key_of(raw: Raw) -> str | None:
    """NB: a profile that this version cannot read is none of ours."""
    try:
        return profile_key(SLMProfileSpec.model_validate(raw.get("spec")))
    except ValidationError:
        return None


async def _libraries(cluster: Cluster) -> tuple[Sequence[str], str]:
    """Namespaces of libraries, and why they are not known."""
    operators = await may(operators_of(cluster), "list deployments in all namespaces")
    if isinstance(operators, Unseen):
        return (), f"no right to {operators.right}"
    settings, doubt = await settings_of(cluster, operators)
    return settings.profiles.library_namespaces, doubt if operators else ""
