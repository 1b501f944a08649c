"""What is read off a running operator and the API server's audit log, for `scale.py` and `churn.py`."""

import json
import os
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
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


def api_calls(audit_log: Path, since: str, until: str = "9", agent: str = "slm-operator") -> Counter[str]:
    """`verb resource` to how often the operator asked it, its Lease left out."""
    calls: Counter[str] = Counter()
    with audit_log.open() as lines:
        for text in lines:
            entry = json.loads(text)
            what = entry.get("objectRef") or {}
            at = entry["requestReceivedTimestamp"]
            if entry.get("userAgent") == agent and since <= at < until and what.get("resource") != "leases":
                parts = (what.get("resource", entry["requestURI"]), what.get("subresource"))
                calls[f"{entry['verb']} {'/'.join(part for part in parts if part)}"] += 1
    return calls


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


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def environment() -> dict[str, Any]:
    """Where and when a run took place."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "commit": commit,
        "date": time.strftime("%Y-%m-%d %H:%MZ", time.gmtime()),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
    }
