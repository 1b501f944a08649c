"""The light engine's /metrics, under vLLM's names."""

from .scheduler import BUCKETS, Histogram, Scheduler

COUNTERS = ("num_preemptions", "prompt_tokens", "generation_tokens")


def exposition(scheduler: Scheduler, model_name: str, cache_config: dict[str, object], prefix: str = "vllm:") -> str:
    """Prometheus text."""
    labels = f'engine="0",model_name="{model_name}"'
    used = 1 - scheduler.free_blocks / scheduler.num_blocks
    gauges = {
        "num_requests_running": len(scheduler.running),
        "num_requests_waiting": len(scheduler.waiting),
        "kv_cache_usage_perc": used,
    }
    lines = []
    for name, value in gauges.items():
        lines += [f"# TYPE {prefix}{name} gauge", f"{prefix}{name}{{{labels}}} {value}"]
    for name in COUNTERS:
        lines += [
            f"# TYPE {prefix}{name}_total counter",
            f"{prefix}{name}_total{{{labels}}} {float(scheduler.counters[name])}",
        ]
    for name, tokens in (("queries", scheduler.prefixes.queries), ("hits", scheduler.prefixes.hits)):
        lines += [
            f"# TYPE {prefix}prefix_cache_{name}_total counter",
            f"{prefix}prefix_cache_{name}_total{{{labels}}} {float(tokens)}",
        ]
    success = scheduler.counters["request_success"]
    lines += [
        f"# TYPE {prefix}request_success_total counter",
        f'{prefix}request_success_total{{{labels},finished_reason="length"}} {float(success)}',
    ]
    for name, histogram in scheduler.histograms.items():
        lines += _histogram(f"{prefix}{name}_seconds", labels, histogram)
    described = ",".join(f'{key}="{value}"' for key, value in cache_config.items())
    lines += [f"# TYPE {prefix}cache_config_info gauge", f'{prefix}cache_config_info{{{described},engine="0"}} 1.0']
    return "\n".join(lines) + "\n"


def _histogram(name: str, labels: str, histogram: Histogram) -> list[str]:
    bounds = [*((str(b), n) for b, n in zip(BUCKETS, histogram.buckets, strict=True)), ("+Inf", histogram.count)]
    return [
        f"# TYPE {name} histogram",
        *(f'{name}_bucket{{{labels},le="{bound}"}} {float(n)}' for bound, n in bounds),
        f"{name}_count{{{labels}}} {float(histogram.count)}",
        f"{name}_sum{{{labels}}} {histogram.sum}",
    ]
