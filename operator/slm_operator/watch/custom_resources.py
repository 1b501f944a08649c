"""SLMDeployments and SLMProfiles as records. What cannot be read is said in `broken`, never raised.

A record is kept as long as its object is there, so what the schema leaves open is bounded here: a raw object (a pod
template) may hold anything, and decoded JSON takes up to fifty times its text.
"""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from slm_core.codec import DocumentError, parse_document
from slm_core.engines.registry import ENGINES, UNNAMED_IMAGE

from slm_operator.api import names
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.defaults import made_of
from slm_operator.watch.applied import own_replicas
from slm_operator.watch.projection import Raw, annotation, cut, meta_of
from slm_operator.watch.records import DeploymentRecord, ProfileRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slm_core.measurements import MeasurementDocument

S = TypeVar("S", bound=BaseModel)

MOST_SPEC_KIB = 64
"""Longest spec, without measurements, as JSON."""
MOST_SPEC_VALUES = 2000
"""Most values in it (objects, lists, texts and numbers). A pod template of a hundred lines has about 150."""


def deployment(raw: Raw) -> DeploymentRecord:
    """An SLMDeployment."""
    body, own = dict(raw.get("spec") or {}), own_replicas(raw)
    if own is not None:
        del body["replicas"]
    spec, broken = _spec(SLMDeploymentSpec, body)
    return DeploymentRecord(
        meta=meta_of(raw),
        spec=spec,
        broken=broken,
        own_replicas=own,
        made_of=made_of(spec) if spec is not None else "",
        upgrade=annotation(raw, names.UPGRADE_ANNOTATION),
        status=raw.get("status") or {},
    )


def profile(raw: Raw, default_image: str = ENGINES[0].image) -> ProfileRecord:
    """An SLMProfile, its measurements parsed: imported ones from spec, measured ones from status.

    `default_image`: of the engine of one whose spec names none, until something of it is measured.
    """
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
    partial, _ = _document("status.partial", status.get("partial"))
    if spec is not None:
        spec = _with_image(spec, (measurements, partial), default_image)
    read = {"partial": partial} | (
        {} if imported is not None or measurements is None else {"measurements": measurements}
    )
    return ProfileRecord(
        meta=meta_of(raw),
        spec=spec,
        measurements=measurements,
        imported=imported is not None,
        broken=broken or unreadable,
        partial=partial,
        status=status | {name: document for name, document in read.items() if document is not None},
        created=str(raw["metadata"].get("creationTimestamp") or ""),
        retry=annotation(raw, names.RETRY_ANNOTATION),
    )


def _with_image(
    spec: SLMProfileSpec, measured: Iterable[MeasurementDocument | None], default_image: str
) -> SLMProfileSpec:
    """NB: what was measured says of which image, and is found by that, whatever engines have by default on another day."""
    if spec.engine.image is not None:
        return spec
    found = (one.engine.image or UNNAMED_IMAGE for one in measured if one is not None)
    image = next(found, default_image)
    return spec.model_copy(update={"engine": spec.engine.model_copy(update={"image": image})})


def _spec(kind: type[S], body: Raw) -> tuple[S | None, str | None]:
    if _is_too_big(body):
        biggest = max(body, key=lambda name: _bytes_of(body[name]))
        return None, (
            f"spec.{cut(biggest)}: spec may have {MOST_SPEC_KIB} KiB of JSON and {MOST_SPEC_VALUES} values at most, and most "
            "of it is here. Keep long texts in a ConfigMap or in the image, and mount or name them"
        )
    try:
        return kind.model_validate(body), None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in ("spec", *first["loc"]))
        return None, f"{cut(place)}: {cut(first['msg'])}. Correct the field; `kubectl explain` documents it"


def _is_too_big(body: Raw) -> bool:
    return _has_more_values(body, MOST_SPEC_VALUES) or _bytes_of(body) > MOST_SPEC_KIB << 10


def _bytes_of(value: object) -> int:
    """Length of the shortest JSON text. NB: half a character may be in it."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


def _has_more_values(body: Raw, most: int) -> bool:
    """Level by level, and no further than needed."""
    layer: list[Raw | list[object]] = [body]
    while layer and most >= 0:
        inside = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in layer)
        found = list(islice(inside, most + 1))
        most -= len(found)
        layer = [inner for inner in found if isinstance(inner, dict | list)]
    return most < 0


def _document(place: str, raw: object) -> tuple[MeasurementDocument | None, str | None]:
    if raw is None:
        return None, None
    try:
        return parse_document(raw), None
    except DocumentError as error:
        return None, cut(f"{place}: {error}")
