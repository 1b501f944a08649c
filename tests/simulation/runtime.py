"""The profiler in the simulation: what the pod of a profile's Job prints at its end.

A whole search in virtual time, for what the profile asks or is extended for, with a ledger; former points are handed on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from slm_core.codec import parse_document, to_json

from tests import builders as build
from tests.unit.planning.searched import searched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.measurements import MeasurementDocument

    from .made import Job, Profile
    from .world import World


def prepare(sharing: Iterable[dict[str, Any]]) -> None:
    """Search for what may be asked. NB: a search runs a loop of its own, and within another one it cannot."""
    for spec in ({}, *({"sharing": one} for one in sharing)):
        _asked(json.dumps(spec, sort_keys=True))


def result_of(world: World, job: Job, product: str) -> str:
    """The last line of a measurement that ended well, on a GPU of that product."""
    profile = next((one for one in world.profiles.values() if one.uid in job.owners), None)
    measured = _measured(json.dumps(_question(world, profile), sort_keys=True), product)
    if profile is not None and (former := profile.status.get("measurements")) is not None:
        measured = _and(parse_document(former), measured)
    return json.dumps({"event": "result", "document": to_json(measured)})


def _question(world: World, profile: Profile | None) -> dict[str, Any]:
    """The spec of the deployment that it is extended for; else of one that any deployment might have."""
    asks = {} if profile is None else profile.status.get("extension") or {}
    deployment = next((one for one in world.deployments.values() if one.key.name == asks.get("deployment")), None)
    return {} if deployment is None else {"sharing": deployment.spec["sharing"]}


@cache
def _measured(spec: str, product: str) -> MeasurementDocument:
    found = _asked(spec)
    return replace(found, gpu=replace(found.gpu, product=product))


@cache
def _asked(spec: str) -> MeasurementDocument:
    return searched(build.deployment("asks", json.loads(spec)))


def _and(former: MeasurementDocument, newer: MeasurementDocument) -> MeasurementDocument:
    known = set(former.points)
    return replace(newer, points=(*former.points, *(point for point in newer.points if point not in known)))
