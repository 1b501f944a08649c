"""What makes two profiles one: a digest of what the user set and what changes a measurement, from a profile's own spec.

A profile is found by it, whoever made it and under whatever name: in its own namespace, or in a library. So load, SLO and
limits of the search are not in it (a profile is extended by the points that another question lacks), nor is anything that
is derived or chosen by the operator. Must never read a label: that is anybody's to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import engine_of

from slm_operator.digest import digest
from slm_operator.manifests.engine import CONTAINER
from slm_operator.manifests.question import LOADS
from slm_operator.quantity import amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slm_operator.api.parts import EngineSpec
    from slm_operator.api.profile import SLMProfileSpec


def profile_key(spec: SLMProfileSpec) -> str:
    """The same for two profiles exactly when either one's measurements hold for both."""
    measured: dict[str, Any] = {
        "model": spec.model.model_dump(exclude={"credentials_secret_ref"}),
        "engine": _measured(spec.engine),
        "product": spec.gpu.product,
        "workload": spec.workload.model_dump(exclude=set(LOADS)),
    }
    by_hand = _by_hand(spec.pod_template or {}, spec.engine)
    return digest(measured | ({"container": by_hand} if by_hand else {}), 16)


def _measured(spec: EngineSpec) -> dict[str, Any]:
    engine, dumped = engine_of(spec.command), spec.model_dump()
    variables = [one for one in dumped["env"] if engine.measured_variable(one["name"])]
    return dumped | {"args": engine.measured_arguments(spec.args), "env": variables}


def _by_hand(template: Mapping[str, Any], spec: EngineSpec) -> dict[str, Any]:
    """What a pod template sets of the engine's container: CPU and memory in one form, and variables."""
    engine = engine_of(spec.command)
    found: dict[str, Any] = {}
    for container in _engines(template):
        resources = container.get("resources")
        for kind in ("requests", "limits"):
            given = resources.get(kind) if isinstance(resources, dict) else None
            amounts = {name: str(amount(value)) for name, value in given.items()} if isinstance(given, dict) else {}
            found |= {kind: amounts} if amounts else {}
        variables = container.get("env")
        named = [one for one in variables if isinstance(one, dict)] if isinstance(variables, list) else []
        kept = [one for one in named if engine.measured_variable(str(one.get("name")))]
        found |= {"env": sorted(kept, key=lambda one: str(one.get("name")))} if kept else {}
    return found


def _engines(template: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """NB: a template is whatever a person wrote; what is no list of containers is refused elsewhere, in words."""
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    for one in containers if isinstance(containers, list) else ():
        if isinstance(one, dict) and one.get("name") == CONTAINER:
            yield one
