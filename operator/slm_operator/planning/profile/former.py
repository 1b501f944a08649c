"""What was measured before a try: points of tries that did not come to their end, and measurements that a try extends.

A try is given them and measures only what lacks. Must never lose a point, nor mix those of two kinds of GPU or of two pod
templates, which may give an engine another CPU or memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from slm_operator.digest import digest
from slm_operator.manifests.former import MOST_BYTES, written

if TYPE_CHECKING:
    from slm_core.measurements import MeasurementDocument

    from slm_operator.api.profile import SLMProfileSpec
    from slm_operator.planning.views import ProfileView
    from slm_operator.watch.records import ProfileRecord


def former_of(record: ProfileRecord) -> MeasurementDocument | None:
    """What the next try goes on from. None: nothing was measured, or it cannot be handed over."""
    measured, partial = record.measurements, _usable_partial(record)
    both = merged(measured, partial) if measured is not None and partial is not None else None
    found = both or measured or partial
    return found if found is not None and is_handy(found) else None


def is_handy(document: MeasurementDocument) -> bool:
    """Whether a document is small enough to be handed to a pod."""
    return len(written(document)) <= MOST_BYTES


def merged(former: MeasurementDocument, newer: MeasurementDocument) -> MeasurementDocument | None:
    """The newer document, which holds the former's points; None where it does not. What was complete stays so.

    NB: the load in it stays that of the first question: it says with which lengths and for whom it was measured first.
    """
    has_all = newer.points[: len(former.points)] == former.points
    if not has_all or newer.gpu.product != former.gpu.product:
        return None
    both = replace(newer, workload=former.workload)
    if former.complete or newer.complete:
        return replace(both, complete=True, incomplete_because=None)
    return both


def partial_status(view: ProfileView) -> dict[str, Any]:
    """The fields of status that keep what the present try, or former ones, have measured so far."""
    record, spec = view.profile, view.profile.spec
    if record.partial is None and record.status.get(
        "partial"
    ):  # NB: a newer version has measured what this one cannot read
        return {name: to_json(record.status[name]) for name in ("partial", "partialOf") if name in record.status}
    found = view.log.partial or _usable_partial(record)
    if spec is None or found is None:
        return {}
    return {"partial": to_json(found), "partialOf": template_digest(spec)}


def template_digest(spec: SLMProfileSpec) -> str:
    """Of what may change between two tries and change their figures."""
    return digest(spec.pod_template or {})


def _usable_partial(record: ProfileRecord) -> MeasurementDocument | None:
    same = record.spec is not None and record.status.get("partialOf") == template_digest(record.spec)
    return record.partial if same else None
