"""SLMProfiles: what a deployment needs to have measured, as the operator asks for it or as somebody imports it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json
from slm_operator.api import names
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.defaults import Defaults
from slm_operator.manifests.profile import profile as made_for
from slm_operator.watch import custom_resources

from tests.builders.deployments import MODEL, spec_of
from tests.builders.metadata import Raw, manifest, raw_meta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.measurements import MeasurementDocument
    from slm_operator.watch.records import DeploymentRecord, ProfileRecord


IMAGE_OF_PROFILES = Defaults().engine_image


def profile_spec(spec: Mapping[str, Any]) -> SLMProfileSpec:
    """Spec alone, of an engine of some image unless it names one."""
    engine = {"image": IMAGE_OF_PROFILES} | dict(spec.get("engine") or {})
    return SLMProfileSpec.model_validate({"model": MODEL} | dict(spec) | {"engine": engine})


def raw_profile(
    of: DeploymentRecord,
    document: MeasurementDocument | None = None,
    *,
    imported: bool = True,
    ours: bool = False,
    name: str = "",
    status: Raw | None = None,
    **head: Any,
) -> Raw:
    """What a deployment needs to have measured. By a person, who imports what there is, unless it is the operator's own."""
    made = made_for(of, spec_of(of))
    named, labels = name or made["metadata"]["name"], made["metadata"]["labels"] if ours else {}
    figures = {"measurements": to_json(document)} if document is not None else {}
    spec, status = made["spec"] | (figures if imported else {}), (status or {}) | ({} if imported else figures)
    metadata = raw_meta(named, of.meta.key.namespace, **{"labels": labels} | head)
    return manifest(names.PROFILE_KIND, named, spec) | {"metadata": metadata, "status": status}


def profile(
    of: DeploymentRecord,
    document: MeasurementDocument | None = None,
    /,
    *,
    imported: bool = True,
    ours: bool = False,
    **changed: Any,
) -> ProfileRecord:
    """Its record, with a document that was imported or measured, and with the fields that a case is about.

    NB: the document is put in afterwards, as the same object: to write and to read it takes 2 ms. A test holds the two equal.
    """
    record = custom_resources.profile(raw_profile(of, ours=ours))
    assert record.spec is not None, record.broken
    if document is not None:
        spec = record.spec.model_copy(update={"measurements": document}) if imported else record.spec
        status = {} if imported else {"measurements": document}
        record = replace(record, spec=spec, status=status, measurements=document, imported=imported)
    return replace(record, **changed)
