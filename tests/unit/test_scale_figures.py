"""What the scale benchmark reads off an audit log, and how its floor divides the operator's writes."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.figures import Edit, answer_parts, api_calls, percentile, reads_of, writes_of
from benchmarks.scale.floor import shares
from benchmarks.scale.results import missed, table


def entry(
    verb: str, resource: str, at: float, *, took: float = 0.01, agent: str = "slm-operator", name: str = "d1"
) -> Any:
    resource, _, subresource = resource.partition("/")
    what = {"resource": resource, "name": name} | ({"subresource": subresource} if subresource else {})
    times = {"requestReceivedTimestamp": stamp(at), "stageTimestamp": stamp(at + took)}
    return {"userAgent": agent, "verb": verb, "objectRef": what, "requestURI": "/"} | times


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def log_of(folder: Path, *entries: Any) -> Path:
    path = folder / "audit.jsonl"
    path.write_text("".join(f"{json.dumps(one)}\n" for one in entries))
    return path


def test_api_calls_are_of_one_client_without_its_lease(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        entry("patch", "slmdeployments/status", 5),
        entry("patch", "slmdeployments/status", 10),
        entry("list", "pods", 11),
        entry("watch", "pods", 11),
        entry("update", "leases", 11),
        entry("patch", "deployments", 12, agent="kubectl"),
    )
    calls = api_calls(log, stamp(9))
    assert calls == {"patch slmdeployments/status": 1, "list pods": 1, "watch pods": 1}
    assert (writes_of(calls), reads_of(calls)) == (1, 1)


def test_a_change_is_distinguished_by_who_kept_it_waiting(tmp_path: Path) -> None:
    other = entry("patch", "slmdeployments/status", 100.11, name="d2")
    early = entry("patch", "slmdeployments/status", 99.0)
    before = entry("patch", "deployments", 100.11, took=0.01)
    log = log_of(tmp_path, early, other, before, entry("patch", "slmdeployments/status", 100.15, took=0.02))
    parts = answer_parts(log, [Edit("d1", sent=100.0, answered=100.1, seen=100.2)])
    assert [round(part["p50"]) for part in parts.values()] == [100, 10, 40, 20, 30]


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(100, 0.99, 99), (100, 0.5, 50), (101, 0.99, 100), (1, 0.99, 1), (60, 0.99, 60)]
)
def test_percentile_is_the_smallest_value_at_its_share(count: int, share: float, expected: int) -> None:
    assert percentile(list(range(count, 0, -1)), share) == expected


def test_shares_are_even_and_add_up() -> None:
    assert [count for _, count in shares(list("abc"), 7)] == [2, 2, 3]
    assert list(shares([], 7)) == []


def test_table_shows_unmeasured_as_dash_and_missed_goals() -> None:
    load = {"environment": {"load_before": 0.5, "load_after": 2.0}}
    runs: list[dict[str, Any]] = [
        load | {"deployments": 100, "nodes": 300, "settled_seconds": 61.0, "idle_writes": 0},
        load | {"deployments": 1000, "nodes": 300, "settled_seconds": 61.0, "idle_writes": 1},
    ]
    rows = {line.split("|")[1].strip(): line for line in table(runs)}
    assert rows["settled after (s)"] == "| settled after (s) | at most 60 with 1,000 | 61.0 | 61.0 (missed) |"
    assert rows["writes at rest"] == "| writes at rest | none | 0 | 1 (missed) |"
    assert rows["settled / floor"].endswith("| - | - |")
    assert missed(runs) == ["settled after (s)", "writes at rest"]
