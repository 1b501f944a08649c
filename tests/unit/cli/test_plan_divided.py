"""What `kubectl slm plan` says of who would divide a GPU, and what a pack's pod would ask for."""

from __future__ import annotations

from typing import Any

import pytest
from slm_operator.cli.render.packs import divided
from slm_operator.planning.deployment.advising import Unadvisable, advise_deployment

from tests import builders as build

DOCUMENT = build.published("opt-1.3b")
PACK = "2 pods of 2 engines, each with cpu 5, memory 19Gi, nvidia.com/gpu 1 and a router beside"
SAID: dict[str, tuple[dict[str, Any], str | None]] = {
    "packs": ({"partitioning": "PackPod"}, f"PackPod: {PACK}."),
    "either": (
        {"mode": "MPS"},
        f"Auto: slices of a node that opted in, where one fits and MPS holds there; else {PACK}.",
    ),
    "slices": (
        {"partitioning": "NodeSlices"},
        "NodeSlices: each engine has a pod of its own, with a slice of a GPU on a node that opted in.",
    ),
    "shared": (
        {"tenancy": "Shared"},
        "NodeSlices: each engine has a pod of its own, with a slice of a GPU on a node that opted in.",
    ),
    "one engine a GPU": ({"enginesPerGpu": 1}, None),
}


@pytest.mark.parametrize("case", SAID)
def test_plan_says_who_divides_a_gpu(case: str) -> None:
    sharing, expected = SAID[case]
    spec = build.deployment_spec({"sharing": {"enginesPerGpu": 2} | sharing, "replicas": 3})
    advice = advise_deployment(spec, DOCUMENT)
    assert not isinstance(advice, Unadvisable)
    assert divided(spec, advice, DOCUMENT.ledger) == expected
