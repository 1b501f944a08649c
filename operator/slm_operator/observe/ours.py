"""SLMDeployments and SLMProfiles as records. What cannot be read is said in `broken`, never raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from slm_runtime.codec import DocumentError, parse_document

from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.observe.projection import Raw, meta_of
from slm_operator.observe.records import DeploymentRecord, ProfileRecord

if TYPE_CHECKING:
    from slm_runtime.document import MeasurementDocument

S = TypeVar("S", bound=BaseModel)


def deployment(raw: Raw) -> DeploymentRecord:
    """An SLMDeployment."""
    spec, broken = _spec(SLMDeploymentSpec, raw.get("spec") or {})
    return DeploymentRecord(
        meta=meta_of(raw, all_labels=True), spec=spec, broken=broken, status=raw.get("status") or {}
    )


def profile(raw: Raw) -> ProfileRecord:
    """An SLMProfile, its measurements parsed: imported ones from spec, measured ones from status."""
    body, status = dict(raw.get("spec") or {}), raw.get("status") or {}
    imported = body.pop("measurements", None)
    spec, broken = _spec(SLMProfileSpec, body)
    measurements, unreadable = _document(
        *(
            ("spec.measurements", imported)
            if imported is not None
            else ("status.measurements", status.get("measurements"))
        )
    )
    if spec is not None and imported is not None and measurements is not None:
        spec = spec.model_copy(update={"measurements": measurements})
    return ProfileRecord(
        meta=meta_of(raw, all_labels=True),
        spec=spec,
        measurements=measurements,
        imported=imported is not None,
        broken=broken or unreadable,
        status=status,
        created=str(raw["metadata"].get("creationTimestamp") or ""),
    )


def _spec(kind: type[S], body: Raw) -> tuple[S | None, str | None]:
    try:
        return kind.model_validate(body), None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in ("spec", *first["loc"]))
        return None, f"{place}: {first['msg']}. Correct the field; `kubectl explain` documents it"


def _document(place: str, raw: object) -> tuple[MeasurementDocument | None, str | None]:
    if raw is None:
        return None, None
    try:
        return parse_document(raw), None
    except DocumentError as error:
        return None, f"{place}: {error}"
