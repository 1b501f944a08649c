"""Grafana dashboards from a short list of panels: charts/slm-operator/dashboards/*.json.

Exists because a dashboard's JSON is two hundred lines of places and colours around ten queries. Only the queries are
ours. A test compares each metric with those that the operator and vLLM expose.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "charts" / "slm-operator" / "dashboards"
WIDTH, HEIGHT = 8, 7  # of 24 columns; of a panel
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: title, unit as Grafana names it, and queries with their legends."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    text: str = ""


def _quantile(metric: str, by: str, where: str = "") -> str:
    return f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket{where}[5m])))"


def _mean(metric: str, where: str) -> str:
    return f"rate({metric}_sum{where}[1m]) / rate({metric}_count{where}[1m])"


OVERVIEW = (
    Panel(
        "Passes",
        "ops",
        (("sum by (kind, result) (rate(slm_operator_reconcile_total[5m]))", "{{kind}} {{result}}"),),
        "Reconcile passes per second. A result of error that does not go away is in the operator's log.",
    ),
    Panel("Pass, 95th percentile", "s", ((_quantile("slm_operator_reconcile_duration_seconds", "kind"), "{{kind}}"),)),
    Panel(
        "Waiting for a pass, 95th percentile",
        "s",
        ((_quantile("slm_operator_queue_latency_seconds", "pod"), "{{pod}}"),),
    ),
    Panel("Keys waiting", "short", (("max(slm_operator_queue_depth)", "keys"),)),
    Panel(
        "Requests to the API server",
        "reqps",
        (("sum by (verb, resource) (rate(slm_operator_api_requests_total[5m]))", "{{verb}} {{resource}}"),),
    ),
    Panel("Memory", "bytes", (('process_resident_memory_bytes{job=~".*slm-operator.*"}', "{{pod}}"),)),
    Panel("Profiles by phase", "short", (("max by (phase) (slm_operator_profiles)", "{{phase}}"),)),
    Panel(
        "GPU time spent on measuring",
        "s",
        (("max(slm_operator_profile_gpu_seconds)", "all profiles in the cluster"),),
        "What the profiles that are in the cluster now have cost.",
    ),
    Panel(
        "Slices",
        "short",
        (("max by (class, state) (slm_operator_slices)", "{{class}} {{state}}"),),
        "Shares of the GPUs on opted-in nodes.",
    ),
    Panel(
        "GPU memory left free on each GPU",
        "bytes",
        (("max by (namespace, name) (slm_operator_freed_memory_bytes)", "{{namespace}}/{{name}}"),),
    ),
    Panel(
        "Predicted tokens per second and GPU",
        "short",
        (("max by (namespace, name) (slm_operator_predicted_throughput_tokens_per_second)", "{{namespace}}/{{name}}"),),
    ),
)

ENGINE = '{namespace="$namespace", pod=~"$name-.*"}'
DEPLOYED = '{namespace="$namespace", name="$name"}'
DEPLOYMENT = (
    Panel(
        "Tokens per second and GPU, and expected",
        "short",
        (
            (f"max(slm_operator_measured_throughput_tokens_per_second{DEPLOYED})", "measured"),
            (f"max(slm_operator_expected_throughput_tokens_per_second{DEPLOYED})", "expected at this load"),
            (f"max(slm_operator_predicted_throughput_tokens_per_second{DEPLOYED})", "at the load advised for"),
        ),
        "Expected of what the profile measured, with as many requests in flight as now. The load advised for is that of full "
        "batches, unless spec.workload names one.",
    ),
    Panel(
        "Inter-token latency, and expected",
        "s",
        (
            (f"max(slm_operator_measured_itl_seconds{DEPLOYED})", "measured"),
            (f"max(slm_operator_expected_itl_seconds{DEPLOYED})", "expected at this load"),
            (f"max(slm_operator_predicted_itl_seconds{DEPLOYED})", "at the load advised for"),
        ),
    ),
    Panel(
        "Requests on a GPU, and how many more fit",
        "short",
        (
            (f"max(slm_operator_in_flight_requests{DEPLOYED})", "in flight"),
            (f"max(slm_operator_headroom_requests{DEPLOYED})", "more that fit"),
        ),
        "More fit until a limit of the SLO breaks, or batches are full and one has to wait.",
    ),
    Panel(
        "Tokens per second, all replicas",
        "short",
        (
            (f"sum(rate(vllm:prompt_tokens_total{ENGINE}[1m]))", "in"),
            (f"sum(rate(vllm:generation_tokens_total{ENGINE}[1m]))", "out"),
        ),
    ),
    Panel(
        "Inter-token latency by replica, mean",
        "s",
        ((_mean("vllm:inter_token_latency_seconds", ENGINE), "{{pod}}"),),
        "The mean, because vLLM's first bucket ends at 10 ms, above what many small models need.",
    ),
    Panel(
        "Time to first token, 95th percentile",
        "s",
        ((_quantile("vllm:time_to_first_token_seconds", "pod", ENGINE), "{{pod}}"),),
    ),
    Panel("Running sequences", "short", ((f"vllm:num_requests_running{ENGINE}", "{{pod}}"),)),
    Panel("Waiting requests", "short", ((f"vllm:num_requests_waiting{ENGINE}", "{{pod}}"),)),
    Panel("KV cache in use", "percentunit", ((f"vllm:kv_cache_usage_perc{ENGINE}", "{{pod}}"),)),
    Panel(
        "Preemptions",
        "ops",
        ((f"rate(vllm:num_preemptions_total{ENGINE}[5m])", "{{pod}}"),),
        "The advised KV pool leaves none. Any here means longer sequences than were measured.",
    ),
)


def dashboards() -> dict[Path, str]:
    """File to text."""
    names = [_variable("namespace", "label_values(slm_operator_predicted_throughput_tokens_per_second, namespace)")]
    of = 'label_values(slm_operator_predicted_throughput_tokens_per_second{namespace="$namespace"}, name)'
    names.append(_variable("name", of))
    return {
        FOLDER / "overview.json": _dashboard("slm-overview", "SLM operator", OVERVIEW, []),
        FOLDER / "deployment.json": _dashboard("slm-deployment", "SLM deployment", DEPLOYMENT, names),
    }


def _dashboard(uid: str, title: str, panels: tuple[Panel, ...], variables: list[dict[str, Any]]) -> str:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    body = {
        "uid": uid,
        "title": title,
        "tags": ["slm-operator"],
        "schemaVersion": 39,
        "editable": True,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, *variables]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(body, indent=1) + "\n"


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, 24 // WIDTH)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": DATASOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": DATASOURCE, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }
