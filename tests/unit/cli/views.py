"""Terminal views of a cluster, drawn from values: one file in tests/golden/cli each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slm_core.codec import to_json
from slm_core.measurements import Gpu, Latency
from slm_operator.advisor.expectation import Expectation, Reach
from slm_operator.api.status import SLMDeploymentStatus
from slm_operator.cli.commands import check, history, profile_diff, profile_list, profile_prune, top
from slm_operator.cli.inputs.differences import differences
from slm_operator.cli.inputs.profiles import known_profiles, prunable
from slm_operator.cli.inputs.revisions import Revision, WayBack
from slm_operator.cli.preflight.facts import SchemaSeen
from slm_operator.cli.preflight.table import preflight
from slm_operator.cli.render.live_metrics import Live, Row
from slm_operator.cli.render.story import overview, show_status
from slm_operator.cli.render.terminal import console

from tests.unit.cli.cluster_objects import DOCUMENT, PROFILE, deployed, kept_profile
from tests.unit.cli.sound_cluster import SOUND, STACK, daemon, node, tainted

if TYPE_CHECKING:
    from collections.abc import Callable

    from slm_operator.cli.preflight.facts import Facts

TROUBLED = replace(
    SOUND,
    schema=SchemaSeen(lacking=("SLMDeployment.spec.sharing.tenancy",)),
    daemon_sets=(daemon(version=(0, 17, 4)), STACK[2]),
    plugin_config={"default": "version: v1", "mine": "a: ["},
    rights_missing={"get pods/proxy": "live figures in top"},
    nodes=(
        node(),
        node({"nvidia.com/mig.config": "all-1g.10gb"}, without=("nvidia.com/gpu.memory",), name="gpu-2"),
        tainted("dedicated", name="gpu-3"),
    ),
)

THERE = Expectation(
    in_flight=188.5, throughput_tokens_per_second=12102.0, output_tokens_per_second=8800.0, itl_ms=27.1, reach=Reach.MEASURED
)  # fmt: skip
BUSY = Row(
    name="chat",
    ready=4,
    replicas=4,
    engines_per_gpu=2,
    predicted_tokens_per_second=12314.4,
    itl_limit_ms=30.0,
    itl_statistic="Mean",
    slo_met="True",
    live=Live(engines=4, kv_usage=0.871, running=372, waiting=5, tokens_per_second=11873.2, itl_ms=27.94),
    expected=THERE,
    headroom=24,
)
ROWS = (
    BUSY,
    replace(
        BUSY,
        name="late",
        slo_met="False",
        live=Live(engines=3, kv_usage=0.99, running=96, waiting=41, tokens_per_second=9120, itl_ms=38.2),
        unread="503 Service Unavailable",
        expected=replace(THERE, throughput_tokens_per_second=11020.0, reach=Reach.BOUND),
        headroom=0,
    ),
    replace(BUSY, name="quiet", slo_met="Unknown", expected=None, headroom=256, live=Live(engines=4, kv_usage=0, running=0, waiting=0, tokens_per_second=0)),
    replace(BUSY, name="strict", itl_statistic="P99", itl_limit_ms=50.0),
    Row(
        name="new", ready=0, replicas=0, engines_per_gpu=None, predicted_tokens_per_second=None, itl_limit_ms=None,
        itl_statistic="", slo_met="", live=None,
    ),
)  # fmt: skip

PACK = Revision(
    number=3,
    created="2026-03-01T12:30:00Z",
    advice="99d41a9c23",
    profile="opt-1-3b-9a8b1d3c-drift",
    engines_per_gpu=2,
    sharing_mode="MPS",
    batch_size=96,
    kv_bytes=9_000_000_000,
    replicas=4,
    ready=3,
    image="vllm/vllm-openai:v0.32.0",
    args=(),
)
SINGLE = replace(PACK, number=2, created="2026-02-01T08:00:00Z", advice="6a196a44e0", profile="opt-1-3b-9a8b1d3c",
                 engines_per_gpu=1, sharing_mode="Exclusive", batch_size=256, kv_bytes=None, replicas=0, ready=0)  # fmt: skip
HISTORY = history.History(
    name="chat",
    resource_version="1",
    revisions=(PACK, SINGLE, replace(SINGLE, number=1, created="2026-01-05T17:45:10Z")),
    ways_back={
        2: WayBack(profile="opt-1-3b-9a8b1d3c"),
        1: WayBack(
            refused="SLMProfile opt-1-3b-9a8b1d3c would not bring revision 1 back, because spec has changed since"
        ),
    },
)

_H100 = to_json(
    replace(
        DOCUMENT, gpu=Gpu(product="NVIDIA-H100-80GB-HBM3", memory_bytes=80 << 30), measured_at="2026-01-05T17:31:44Z"
    )
)
KEPT = known_profiles(
    [
        kept_profile(PROFILE["metadata"]["name"], measurements=_H100, gpuSeconds=3060),
        kept_profile("opt-1-3b-0b7f21aa", measurements=_H100, unusedSince="2026-02-11T09:00:00Z", gpuSeconds=3420),
        kept_profile("by-hand", labels={}, measurements=_H100, unusedSince="2026-01-30T09:00:00Z", gpuSeconds=2811),
        kept_profile("opt-1-3b-55c10d9e", phase="Running", measurements=None, gpuSeconds=None, product="NVIDIA-L4"),
    ],
    [deployed()],
)
PRUNABLE = prunable(KEPT, 30, datetime(2026, 4, 1, tzinfo=UTC))

_SWEEP = tuple(
    replace(one, throughput_ci_fraction=0.02, ttft_ms=Latency(mean_ms=40.0 + one.batch_size)) for one in DOCUMENT.points
)
BEFORE = replace(DOCUMENT, points=_SWEEP[1:])
AFTER = replace(
    DOCUMENT,
    engine=replace(DOCUMENT.engine, version="0.32.0", args=("--kv-cache-dtype", "fp8")),
    points=tuple(
        replace(
            one,
            throughput_tokens_per_second=one.throughput_tokens_per_second * (0.92 + 0.0008 * one.batch_size),
            itl_ms=Latency(mean_ms=one.itl_ms.mean_ms * 1.02),
            ttft_ms=Latency(mean_ms=44.0 + one.batch_size),
        )
        for one in _SWEEP[:-1]
    ),
)
DIFFERENCES = differences(BEFORE, AFTER)


def _checked(facts: Facts) -> None:
    console().print(check.table(preflight(facts)))


VIEWS: dict[str, Callable[[], object]] = {
    "check-ready.txt": lambda: _checked(SOUND),
    "check-troubled.txt": lambda: _checked(TROUBLED),
    "top.txt": lambda: console().print(top.table("team", ROWS)),
    "history.txt": lambda: console().print(history.table(HISTORY)),
    "profile-list.txt": lambda: console().print(profile_list.table(KEPT)),
    "profile-list-everywhere.txt": lambda: console().print(profile_list.table(KEPT, everywhere=True)),
    "profile-prune.txt": lambda: console().print(profile_prune.table(PRUNABLE, len(KEPT), 30)),
    "profile-diff.txt": lambda: console().print(profile_diff.view("before", "after", DIFFERENCES)),
    "watch.txt": lambda: console().print(overview("team", [deployed()], [PROFILE])),
    "explain.txt": lambda: show_status("opt", SLMDeploymentStatus.model_validate(deployed()["status"])),
}
"""File name to what prints it."""
