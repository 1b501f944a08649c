"""What the router of a pack is told, pinned: a diff of the golden file restarts packs at an upgrade."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from slm_operator.manifests.router import router_config

from .cases import ROUTER

GOLDEN = Path(__file__).parents[2] / "golden" / "manifests" / "router.cfg"


def test_router_config_is_as_recorded() -> None:
    assert router_config(ROUTER) == GOLDEN.read_text(), "run `make generate` and review the diff"


@pytest.mark.parametrize("engines", [2, 16])
def test_each_engine_is_a_server_and_may_be_retried_once(engines: int) -> None:
    ports = tuple(range(9000, 9000 + engines))
    text = router_config(replace(ROUTER, engine_ports=ports))
    assert re.findall(r"^    server engine-\d+ 127\.0\.0\.1:(\d+) ", text, re.MULTILINE) == [
        str(port) for port in ports
    ]
    assert f"    retries {engines}\n" in text


def test_only_requests_and_metrics_are_listened_for() -> None:
    assert re.findall(r"^\s+bind (.*)$", router_config(ROUTER), re.MULTILINE) == [":8000", ":8003"]
    assert "stats " not in router_config(ROUTER)
