"""The advisor's values as plain JSON values, once for all who write them: status, `kubectl slm -o json`, the report.

Exists so that one thing has one JSON name everywhere, in camel case of the field it comes from. Must never compute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slm_core.measurements import camel
from slm_core.slo import METRICS

if TYPE_CHECKING:
    from slm_core.candidates import Rates
    from slm_core.configuration import EngineConfiguration


def configuration_values(configuration: EngineConfiguration) -> dict[str, Any]:
    """B, R, mode, KV bytes and token budget. None: not decided, or not known."""
    return {
        "batchSize": configuration.batch_size,
        "kvCacheBytes": configuration.kv_cache_bytes,
        "maxNumBatchedTokens": configuration.max_num_batched_tokens,
        "enginesPerGpu": configuration.engines_per_gpu,
        "sharingMode": str(configuration.sharing_mode),
    }


def figures_values(figures: Rates) -> dict[str, float | None]:
    """Tokens per second and mean latencies of one GPU, unrounded. None: not known."""
    return {
        "tokensPerSecondPerGpu": figures.throughput_tokens_per_second,
        "outputTokensPerSecondPerGpu": figures.output_tokens_per_second,
        **{camel(metric.field): metric.mean_ms(figures) for metric in METRICS},
    }
