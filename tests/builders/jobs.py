"""The Job that measures a profile, its pod, and what that prints."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_operator.api import names
from slm_operator.manifests.metadata import job_name
from slm_operator.watch import projection
from slm_operator.watch.records import Owner

from tests.builders.metadata import Raw, raw_meta
from tests.builders.pods import raw_pod, read_pod
from tests.builders.times import NOW

if TYPE_CHECKING:
    from slm_operator.watch.records import JobRecord, PodRecord, ProfileRecord


def raw_job(of: ProfileRecord) -> Raw:
    """The Job of a profile, a moment old."""
    maker = Owner(names.PROFILE_KIND, of.meta.key.name, of.meta.uid)
    head = raw_meta(job_name(of), of.meta.key.namespace, uid=f"job-{of.meta.uid}", owners=(maker,))
    return {"metadata": head | {"creationTimestamp": NOW.isoformat()}, "status": {"active": 1}}


def job(of: ProfileRecord, **changed: Any) -> JobRecord:
    return replace(projection.job(raw_job(of)), **changed)


def measuring(of: JobRecord, name: str = "measuring", **changed: Any) -> PodRecord:
    """The pod of a profile's Job, running on a whole GPU."""
    maker = Owner("Job", of.meta.key.name, of.meta.uid)
    labels = {names.PROFILE_LABEL: of.meta.key.name}
    return read_pod(raw_pod(name, of.meta.key.namespace, labels=labels, owners=(maker,)), **changed)


def printed(text: str, at: str = "2026-01-01T00:00:00.000000001Z") -> bytes:
    """A log as the kubelet gives it: each line behind its time."""
    return "".join(f"{at} {line}" for line in text.splitlines(keepends=True)).encode()
