"""How long a profile is kept that nobody uses: what people made stays, what the operator made goes only when it was said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_operator.api.conditions import moment
from slm_operator.planning.profile.retention import LONGEST_LOOK_SECONDS, Retention, retention
from slm_operator.settings import Profiles, Settings
from slm_operator.watch.custom_resources import profile as projected

from tests import builders as build

if TYPE_CHECKING:
    from slm_operator.watch.records import ProfileRecord

FOR_EVER = Settings()
MONTH = Settings(profiles=Profiles(retention_days=30))
OURS = {"app.kubernetes.io/managed-by": "slm-operator"}
SINCE = "2026-01-01T00:00:00Z"


def made(labels: dict[str, str] = OURS, *, deleting: bool = False, **more: Any) -> ProfileRecord:
    found = build.profile(build.deployment(), created="2025-06-01T00:00:00Z", **more)
    return replace(found, meta=replace(found.meta, labels=labels, deleting=deleting))


def unused(since: str = SINCE, **more: Any) -> ProfileRecord:
    return made(status={"phase": "Complete", "unusedSince": since}, **more)


def after(days: float) -> datetime:
    return build.NOW + timedelta(days=days)


def test_used_profile_has_no_unused_since_and_stays() -> None:
    assert retention(unused(), MONTH, after(99), is_used=True) == Retention(unused_since=None)


def test_profile_becoming_unused_is_so_from_now() -> None:
    found = retention(made(), MONTH, after(2), is_used=False)
    assert (found.unused_since, found.delete) == ("2026-01-03T00:00:00Z", None)


def test_unused_profile_keeps_its_unused_since() -> None:
    assert retention(unused(), MONTH, after(2), is_used=False).unused_since == SINCE


def test_clock_set_back_changes_no_unused_since() -> None:
    found = retention(unused(), MONTH, after(-400), is_used=False)
    assert (found.unused_since, found.delete) == (SINCE, None)


def test_unused_since_is_not_before_creation() -> None:
    restored = unused("2020-01-01T00:00:00Z")
    found = retention(restored, MONTH, after(0), is_used=False)
    assert (found.unused_since, found.delete) == ("2025-06-01T00:00:00Z", None)


def test_slow_clock_makes_no_unused_since_before_creation() -> None:
    assert retention(made(), MONTH, after(-400), is_used=False).unused_since == "2025-06-01T00:00:00Z"


@pytest.mark.parametrize("text", ["", "soon", "2026-01-01", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00"])
def test_unused_since_is_set_whatever_status_holds(text: str) -> None:
    found = retention(unused(text), MONTH, after(1), is_used=False)
    assert moment(found.unused_since) is not None
    assert found.delete is None


def test_unused_profile_is_kept_without_retention() -> None:
    assert retention(unused(), FOR_EVER, after(9999), is_used=False) == Retention(unused_since=SINCE)


def test_unused_profile_is_deleted_by_uid_after_retention() -> None:
    record = unused()
    delete = retention(record, MONTH, after(30), is_used=False).delete
    assert delete is not None
    assert (delete.kind, delete.key, delete.uid) == ("SLMProfile", record.meta.key, record.meta.uid)
    assert delete.because == (
        "no SLMDeployment has used it since 2026-01-01T00:00:00Z, for longer than profiles.retentionDays (30) allows"
    )


def test_unused_profile_stays_until_its_retention_ends() -> None:
    found = retention(unused(), MONTH, after(30) - timedelta(seconds=1), is_used=False)
    assert (found.delete, found.look_again_seconds) == (None, 1.0)


KEPT = {
    "of a person": unused(labels={}),
    "of another tool": unused(labels={"app.kubernetes.io/managed-by": "Helm"}),
    "imported": replace(unused(), imported=True),
    "being deleted": unused(deleting=True),
}


@pytest.mark.parametrize("name", KEPT)
def test_profile_not_made_by_the_operator_is_kept(name: str) -> None:
    assert retention(KEPT[name], MONTH, after(9999), is_used=False) == Retention(unused_since=SINCE)


@pytest.mark.parametrize("unreadable", [{"spec": None}, {"broken": "status.measurements: a newer schema"}])
def test_profile_that_this_version_cannot_read_is_kept(unreadable: dict[str, Any]) -> None:
    found = replace(unused(), **unreadable)
    assert retention(found, MONTH, after(31), is_used=False).delete is None


@pytest.mark.parametrize(("days", "seconds"), [(0, 3600), (29.99, 864), (30, 3600), (99, 3600)])
def test_unused_profile_is_looked_at_again_within_an_hour(days: float, seconds: float) -> None:
    found = retention(unused(), MONTH, after(days), is_used=False).look_again_seconds
    assert found == pytest.approx(seconds)


def test_a_label_of_the_api_reaches_the_decision() -> None:
    raw = {"metadata": {"name": "p", "namespace": "team", "uid": "u", "labels": OURS | {"other": "x"}}}
    record = projected(raw | {"spec": {"model": {"uri": "pvc://a/b"}}, "status": {"unusedSince": SINCE}})
    assert retention(record, MONTH, after(30), is_used=False).delete is not None


moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@given(moments, moments, st.floats(1e-9, 3650), st.integers(-14, 14))
def test_no_profile_is_deleted_before_retention_ends(then: datetime, now: datetime, days: float, zone: int) -> None:
    settings = Settings(profiles=Profiles(retention_days=days))
    written = then.astimezone(timezone(timedelta(hours=zone))).isoformat()
    found = retention(unused(written), settings, now, is_used=False)
    assert found.look_again_seconds is not None
    assert 1 <= found.look_again_seconds <= LONGEST_LOOK_SECONDS
    if found.delete is not None:
        assert (now - then).total_seconds() >= days * 86_400
        assert found.unused_since == written


@given(moments)
def test_unused_since_just_written_is_never_due(now: datetime) -> None:
    settings = Settings(profiles=Profiles(retention_days=1e-9))
    assert retention(made(), settings, now, is_used=False).delete is None
