"""What was measured before a try: points of tries that did not come to their end, and measurements that a try extends.

A try is given them and measures only what lacks. Must never lose a point, nor mix those of two kinds of GPU or of two pod
templates, which may give an engine another CPU or memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from slm_core.codec import to_json

from slm_operator.manifests.former import MOST_BYTES, written
from slm_operator.manifests.profile import template_digest

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
    stands = {name: to_json(record.status[name]) for name in ("partial", "partialOf") if name in record.status}
    if record.partial is None and record.status.get("partial"):
        return stands  # NB: a newer version has measured what this one cannot read
    found = measured_so_far(view)
    if spec is None or found is None:
        return stands if "partial" in stands else {}
    return {"partial": to_json(found), "partialOf": _measured_under(view, spec)}


def measured_so_far(view: ProfileView) -> MeasurementDocument | None:
    """What this try and former ones have measured that stands in no measurements yet. Of several the longest, or the newest.

    NB: an image prints what it likes, and a try on another GPU begins anew: neither takes a point away.
    """
    record, former = view.profile, view.profile.measurements
    if record.spec is None:
        return None
    is_like_it = record.status.get("partialOf") == _measured_under(view, record.spec)
    found = [one for one in (view.log.document, view.log.partial, record.partial if is_like_it else None) if one]
    if former is not None:
        longer = [one for one in found if len(one.points) > len(former.points)]
        found = [both for one in longer if (both := merged(former, one)) is not None]
    return max(found, key=lambda one: len(one.points), default=None)


def _measured_under(view: ProfileView, spec: SLMProfileSpec) -> str:
    """Digest of the pod template of the present try. NB: spec may have changed since its Job was made."""
    made_with = view.job.template if view.job is not None else None
    return made_with or template_digest(spec)


def _usable_partial(record: ProfileRecord) -> MeasurementDocument | None:
    same = record.spec is not None and record.status.get("partialOf") == template_digest(record.spec)
    return record.partial if same else None
