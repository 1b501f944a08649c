"""Which of several profiles with one key is rested on: by the operator, and by whoever says in advance what it would do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slm_operator.watch.records import ProfileRecord


def newest(record: ProfileRecord) -> tuple[bool, bool, str]:
    """The largest is rested on: measured, not being deleted, and measured last."""
    measured_at = record.measurements.measured_at if record.measurements is not None else None
    return record.measurements is not None, not record.meta.deleting, measured_at or ""
