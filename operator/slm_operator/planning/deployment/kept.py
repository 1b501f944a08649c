"""Which of the operator's defaults a deployment has: those that it was made with, until somebody asks for others.

Asking is a change of what its pods are made of, or the annotation that `kubectl slm upgrade` writes. What it has is written
down twice: in its status, and on its Deployment, for whoever restores objects restores no status. Must never let a changed
default replace a pod or change a profile's key.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from slm_operator.defaults import NOTHING, Kept, read_kept
from slm_operator.manifests.defaulted import measured_with
from slm_operator.manifests.served import read_served

if TYPE_CHECKING:
    from slm_operator.defaults import Defaults
    from slm_operator.watch.records import DeploymentRecord, WorkloadRecord


def resolved(record: DeploymentRecord, workload: WorkloadRecord | None, now: Defaults) -> DeploymentRecord:
    """The deployment with the defaults that it has. `now`: those of the settings."""
    if record.defaults is not None:
        return record
    if record.spec is None:  # what it has stays for the day when its spec can be read again
        return replace(record, defaults=next(iter(_written(record, workload)), None))
    kept = kept_defaults(record, workload, now)
    return replace(record, spec=measured_with(record.spec, kept.values), defaults=kept)


def kept_defaults(record: DeploymentRecord, workload: WorkloadRecord | None, now: Defaults) -> Kept:
    """Those that its status names, else those of its Deployment, else those of now.

    NB: status comes first. Once others were taken, the Deployment has the former ones until the new ones are measured.
    """
    known = _written(record, workload)
    for kept in known:
        if _holds(kept, record):
            return kept
    # NB: who was made before there were defaults runs without any, and may go on so.
    values = NOTHING if workload is not None and not known else now
    former = known[0].upgrade if known else None
    return Kept(values=values, made_of=record.made_of, upgrade=record.upgrade or former)


def _written(record: DeploymentRecord, workload: WorkloadRecord | None) -> tuple[Kept, ...]:
    served = read_served(workload.served) if workload is not None else None
    written = (record.status.get("defaults"), served.defaults if served is not None else None)
    return tuple(kept for kept in map(read_kept, written) if kept is not None)


def _holds(kept: Kept, record: DeploymentRecord) -> bool:
    """NB: each value of the annotation asks once; to remove it asks for nothing."""
    is_asked = record.upgrade is not None and record.upgrade != kept.upgrade
    return kept.made_of == record.made_of and not is_asked


def older(record: DeploymentRecord, kept: Kept, now: Defaults) -> tuple[str, ...]:
    """Names of the defaults, as the settings have them, that it would have otherwise now."""
    fields = type(now).model_fields
    differing = (name for name in fields if getattr(kept.values, name) != getattr(now, name))
    is_given = {"engine_image": record.spec is not None and record.spec.engine.image is not None}
    return tuple(str(fields[name].alias) for name in differing if not is_given.get(name, False))
