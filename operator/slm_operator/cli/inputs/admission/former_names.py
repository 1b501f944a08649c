"""Names that fields and values had before: where a manifest still has one, the answer is the name of today.

No old name is read. Paths are without the indexes of lists. Both kinds share the table: no path of one means something
else in the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Renamed:
    """What a field is called today."""

    now: tuple[str, ...]
    """One path, or several that share what it said."""
    how: str = ""
    """How its value is written today, where that is not the same."""


def _slo(at: str) -> dict[str, Renamed]:
    return {
        f"{at}.itlMs": Renamed((f"{at}.itl.maxMs",)),
        f"{at}.itlFactor": Renamed((f"{at}.itl.maxFactor",)),
        f"{at}.ttftMs": Renamed((f"{at}.ttft.maxMs",)),
        f"{at}.percentile": Renamed((f"{at}.itl.statistic", f"{at}.ttft.statistic"), "each metric has its own"),
    }


_REFERENCE = "an object: {name: ...}"
RENAMED: dict[str, Renamed] = {
    **_slo("spec.slo"),
    **_slo("spec.search.slo"),
    "spec.model.trustRemoteCode": Renamed(("spec.model.remoteCode",), "Trusted for true, Never for false"),
    "spec.model.credentialsSecret": Renamed(("spec.model.credentialsSecretRef",), _REFERENCE),
    "spec.workload.concurrency": Renamed(("spec.workload.concurrencyPerGpu",)),
    "spec.workload.requestsPerSecond": Renamed(("spec.workload.requestsPerSecondPerGpu",)),
    "spec.profiling.profile": Renamed(("spec.profiling.profileRef",), _REFERENCE),
    "spec.sharing.neighbours": Renamed(("spec.sharing.tenancy",), "Dedicated for Same, Shared for Any"),
    "spec.sharing.replicasPerGpu": Renamed(("spec.sharing.enginesPerGpu",)),
    "spec.sharing.maxReplicasPerGpu": Renamed(("spec.sharing.maxEnginesPerGpu",)),
    "spec.search.replicasPerGpu": Renamed(("spec.search.enginesPerGpu",)),
    "spec.search.maxReplicasPerGpu": Renamed(("spec.search.maxEnginesPerGpu",)),
    "spec.accelerator.product": Renamed(("spec.accelerator.products",), "a list of one"),
    "spec.routing.gateway": Renamed(("spec.routing.gatewayRef",)),
    "spec.routing.endpointPicker": Renamed(("spec.routing.endpointPickerRef",)),
}
VALUES: dict[str, dict[str, str]] = {
    "spec.sharing.mode": {"None": "Exclusive"},
    "spec.search.mode": {"None": "Exclusive"},
    "spec.measurements.points.sharingMode": {"None": "Exclusive"},
    "spec.sharing.tenancy": {"Same": "Dedicated", "Any": "Shared"},
}
"""Path of a field, to its former values and those of today."""


def name_now(path: str) -> str | None:
    """Where what stands at a path is written today, as a sentence. None for a path that never was a field."""
    found = RENAMED.get(_without_indexes(path))
    if found is None:
        return None
    return f"this field is called {' and '.join(found.now)} now" + (f": {found.how}" if found.how else "")


def value_now(path: str, value: object) -> str | None:
    """The word of today for a value of an enum. None for a value that never was one."""
    return VALUES.get(_without_indexes(path), {}).get(value) if isinstance(value, str) else None


def stands_in_for(path: str) -> tuple[str, ...]:
    """The fields of today that a former name holds the place of."""
    return tuple(chain.from_iterable(one.now for old, one in RENAMED.items() if old == _without_indexes(path)))


def _without_indexes(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)
