"""What is read off a running operator, its machine and the API server's audit log, for runs that are kept."""

import json
import os
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
READS = {"get", "list"}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Memory of a process: its peak (VmHWM) or what it has now (VmRSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def now() -> str:
    """Now, as the audit log writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def asked(audit_log: Path, since: str, until: str = "9", agent: str = "slm-operator") -> Iterator[Any]:
    """Entries of the audit log that one client is the cause of, its Lease left out.

    Times are the log's own text, which sorts as it is; "9" is later than all.
    """
    with audit_log.open() as lines:
        for text in lines:
            if agent not in text:  # most lines are others', and parsing is what takes time
                continue
            entry = json.loads(text)
            at, what = entry["requestReceivedTimestamp"], entry.get("objectRef") or {}
            if entry.get("userAgent") == agent and since <= at < until and what.get("resource") != "leases":
                yield entry


def call_of(entry: Any) -> str:
    """`verb resource/subresource` of an entry."""
    what = entry.get("objectRef") or {}
    parts = (what.get("resource", entry["requestURI"]), what.get("subresource"))
    return f"{entry['verb']} {'/'.join(part for part in parts if part)}"


def api_calls(audit_log: Path, since: str, until: str = "9", agent: str = "slm-operator") -> Counter[str]:
    """`verb resource` to how often one client asked it."""
    return Counter(call_of(entry) for entry in asked(audit_log, since, until, agent))


class Edit(NamedTuple):
    """One change at rest: of what, and when it was sent, answered, and seen in status. Seconds since the epoch."""

    name: str
    sent: float
    answered: float
    seen: float


class Asked(NamedTuple):
    """One request of the operator about a deployment. Seconds since the epoch."""

    call: str
    received: float
    done: float


def answer_parts(audit_log: Path, edits: Sequence[Edit]) -> dict[str, dict[str, float]]:
    """Where the time between an edit and its status went, in ms: whom a late status waited for."""
    asked_about: dict[str, list[Asked]] = {}
    for entry in asked(audit_log, datetime.fromtimestamp(edits[0].sent, UTC).isoformat()):
        times = (entry["requestReceivedTimestamp"], entry["stageTimestamp"])
        received, done = (datetime.fromisoformat(text).timestamp() for text in times)
        name = (entry.get("objectRef") or {}).get("name", "")
        asked_about.setdefault(name, []).append(Asked(call_of(entry), received, done))
    parts: dict[str, list[float]] = {}
    for edit in edits:
        since = [one for one in asked_about[edit.name] if one.received >= edit.sent]
        reported = next(one for one in since if one.call == "patch slmdeployments/status")
        others = sum(one.done - one.received for one in since if one.received < reported.received)
        for part, seconds in (
            ("the API server answers the edit", edit.answered - edit.sent),
            ("the API server takes what the operator writes before", others),
            ("the operator itself", reported.received - edit.answered - others),
            ("the API server takes the status", reported.done - reported.received),
            ("it is seen", edit.seen - reported.done),
        ):
            parts.setdefault(part, []).append(1000 * seconds)
    return {
        part: {name: round(percentile(values, share), 1) for name, share in (("p50", 0.5), ("p99", 0.99))}
        for part, values in parts.items()
    }


def writes_of(calls: Mapping[str, int]) -> int:
    """How many of the calls write."""
    return sum(count for call, count in calls.items() if call.split()[0] not in READS | {"watch"})


def reads_of(calls: Mapping[str, int]) -> int:
    """How many of the calls read, watches not counted."""
    return sum(count for call, count in calls.items() if call.split()[0] in READS)


def metrics_of(port: int) -> dict[str, float]:
    """The operator's metrics, by name with labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] not in {"#", ""})
    }


def histogram_percentiles(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """Upper bounds, in seconds, of the buckets that hold the percentiles of an unlabelled histogram."""
    head = f'{name}_bucket{{le="'
    buckets = {float(key[len(head) : -2]): count for key, count in metrics.items() if key.startswith(head)}
    total = metrics[f"{name}_count"]
    wanted = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {
        label: next((bound for bound, count in sorted(buckets.items()) if count >= share * total), float("inf"))
        for label, share in wanted.items()
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
