"""The doors that `kubectl slm check` looks for are those that the chart makes, by their names."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from slm_operator.cli.preflight.doors import Doors, doors
from slm_operator.cli.preflight.installation import OPERATOR_SELECTOR, installed

from tests.chart.helm import of_kind, rendered

if TYPE_CHECKING:
    from slm_operator.kube.resources import Resource

pytestmark = pytest.mark.slow
CLOSED = (
    "policy.engines.images={registry.example.com/}",
    "policy.slices.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.engines.namespaces={team}",
    "quota.namespaces={team}",
    "metrics.secure.enabled=true",
    "metrics.secure.secretName=tls",
)


class Rendered:
    """A cluster with what the chart makes."""

    def __init__(self, *values: str) -> None:
        self.client = self
        self.objects = rendered(*values)

    async def list(self, resource: Resource, namespace: str = "", *, selector: str = "") -> list[dict[str, Any]]:
        assert (namespace, selector) == ("", OPERATOR_SELECTOR)
        name, _, value = selector.partition("=")
        return [one for one in of_kind(self.objects, resource.kind) if one["metadata"]["labels"][name] == value]


async def seen(*values: str) -> tuple[Doors, bool]:
    chart: Any = Rendered(*values)
    (operator,) = of_kind(chart.objects, "Deployment")
    return await doors(chart, OPERATOR_SELECTOR), installed(operator).secure_metrics


async def test_doors_closed_by_the_chart_are_seen_as_closed() -> None:
    assert await seen(*CLOSED) == (Doors(), True)


async def test_doors_open_by_default_are_seen_as_open() -> None:
    found, secure = await seen()
    assert not secure
    assert {one.name for one in fields(found) if getattr(found, one.name)} == {"admission"}
