"""What engines do now, from two looks at their counters: pure, so that a table of it can be tested.

Throughput is per GPU and counts input and output tokens, as the advice does; ITL is the mean. Assumes counters that only
grow: an engine that was restarted in between is left out. Must never fill a gap with a guess: what was not read is None.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from slm_core.counters import CounterDelta, over_engines

from slm_operator.api.conditions import condition
from slm_operator.api.names import Condition
from slm_operator.manifests.metadata import label_value
from slm_operator.partitioning.pack_pod import PACK_POD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.counters import Counters
    from slm_core.slo import Limits

    from slm_operator.advisor.expectation import Curve, Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a namespace. Keys are values of the deployment label."""

    at_seconds: float
    deployments: Sequence[Mapping[str, Any]]
    """Raw SLMDeployments."""
    engines: Mapping[str, Mapping[str, Counters]] = field(default_factory=dict)
    """Counters of each replica that answered, by pod name."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Why replicas did not answer: the first one's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promised:
    """What a deployment's profile says of it."""

    limits: Limits
    """The SLO in milliseconds."""
    curve: Curve | None = None
    """What was measured of the advised configuration, over requests in flight. None: not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What the replicas of one deployment do now."""

    engines: int
    """Replicas that were read."""
    kv_usage: float
    """Fraction of the KV pool in use; of several engines the largest."""
    running: int
    waiting: int
    tokens_per_second: float | None = None
    """Input and output tokens per second and GPU. None: seen only once so far."""
    itl_ms: float | None = None
    """Mean over the tokens since the look before. None: there were none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One deployment, advised and measured."""

    name: str
    ready: int
    replicas: int
    engines_per_gpu: int | None
    predicted_tokens_per_second: float | None
    itl_limit_ms: float | None
    itl_statistic: str
    slo_met: str
    """Status of the condition SLOMet; empty while it is not said."""
    live: Live | None
    unread: str = ""
    expected: Expectation | None = None
    """Of one GPU with so many requests in flight as now. None: not known."""
    headroom: int | None = None
    """How many more requests fit on a GPU under the SLO. None: not known."""


def rows(before: Look | None, now: Look, promised: Mapping[str, Promised]) -> tuple[Row, ...]:
    """A row for each deployment, by name. `promised` is what is known, by name of the deployment."""
    return tuple(
        sorted(
            (_row(raw, before, now, promised.get(raw["metadata"]["name"])) for raw in now.deployments),
            key=lambda r: r.name,
        )
    )


def _row(raw: Mapping[str, Any], before: Look | None, now: Look, promised: Promised | None) -> Row:
    name, status = raw["metadata"]["name"], raw.get("status") or {}
    advice, label = status.get("advice") or {}, label_value(raw["metadata"]["name"])
    per_gpu = (advice.get("configuration") or {}).get("enginesPerGpu")
    met = (condition(status, Condition.SLO_MET) or {}).get("status") or ""
    live = _live(label, before, now, per_gpu or 1, in_one_pod=_is_in_one_pod(status))
    limits = promised.limits if promised is not None else None
    curve = promised.curve if promised is not None else None
    in_flight = (live.running + live.waiting) * (per_gpu or 1) / live.engines if live is not None else None
    return Row(
        name=name,
        ready=status.get("readyReplicas") or 0,
        replicas=status.get("replicas") or 0,
        engines_per_gpu=per_gpu,
        predicted_tokens_per_second=(advice.get("figures") or {}).get("tokensPerSecondPerGpu"),
        itl_limit_ms=limits.itl_ms if limits is not None else None,
        itl_statistic=str(limits.itl_statistic) if limits is not None else "",
        slo_met=met,
        live=live,
        unread=now.unread.get(label, ""),
        expected=curve.at(in_flight) if curve is not None and in_flight is not None else None,
        headroom=curve.headroom(in_flight, limits) if curve is not None and limits and in_flight is not None else None,
    )


def _is_in_one_pod(status: Mapping[str, Any]) -> bool:
    """Whether each page that was read is of all engines of a GPU."""
    return bool((status.get("sharing") or {}).get("partitioning") == PACK_POD.name)


def _live(label: str, before: Look | None, now: Look, engines_per_gpu: int, *, in_one_pod: bool) -> Live | None:
    engines = now.engines.get(label) or {}
    if not engines:
        return None
    last = over_engines(engines.values())
    per_page = engines_per_gpu if in_one_pod else 1
    seen = Live(
        engines=len(engines) * per_page, kv_usage=last.kv_usage, running=int(last.running), waiting=int(last.waiting)
    )
    former = (before.engines.get(label) or {}) if before is not None else {}
    delta = CounterDelta.of_engines(former, engines, now.at_seconds - before.at_seconds) if before is not None else None
    if delta is None:
        return seen
    gpus = delta.engines * per_page / engines_per_gpu
    return replace(seen, tokens_per_second=delta.tokens_per_second / gpus, itl_ms=delta.mean_ms("itl"))
