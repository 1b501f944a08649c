"""SLMProfiles: what a deployment needs to have measured, as the operator asks for it or as somebody imports it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json
from slm_operator.api import names
from slm_operator.manifests import profile as manifests
from slm_operator.watch import custom_resources

from tests.builders.deployments import spec_of
from tests.builders.metadata import Raw, raw_meta

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord


def profile_manifest(name: str, spec: Raw, **head: Any) -> Raw:
    """An SLMProfile as somebody applies it. `head` adds to its metadata."""
    metadata = {"name": name} | head
    return {"apiVersion": names.API_VERSION, "kind": names.PROFILE_KIND, "metadata": metadata, "spec": spec}


def raw_profile(
    of: DeploymentRecord,
    imported: MeasurementDocument | None = None,
    *,
    ours: bool = False,
    name: str = "",
    status: Raw | None = None,
    **head: Any,
) -> Raw:
    """What a deployment needs to have measured, or has had. By a person, unless it is the operator's own."""
    made = manifests.profile(of, spec_of(of))
    named, labels = name or made["metadata"]["name"], made["metadata"]["labels"] if ours else {}
    metadata = raw_meta(named, of.meta.key.namespace, **{"labels": labels} | head)
    figures = {"measurements": to_json(imported)} if imported is not None else {}
    return profile_manifest(named, made["spec"] | figures) | {"metadata": metadata, "status": status or {}}


def profile(
    of: DeploymentRecord, measurements: MeasurementDocument | None = None, *, ours: bool = False, **changed: Any
) -> ProfileRecord:
    """Its record, the measurements imported, with the fields that a case is about.

    NB: a document is put in afterwards, as the same object: to write and to read it takes 2 ms. A test holds the two equal.
    """
    record = custom_resources.profile(raw_profile(of, ours=ours))
    assert record.spec is not None, record.broken
    if measurements is not None:
        spec = record.spec.model_copy(update={"measurements": measurements})
        record = replace(record, spec=spec, measurements=measurements, imported=True)
    return replace(record, **changed)
