"""After everything else: what the operator asked the API server for is what its roles grant, both ways.

The whole run was under the chart's admission policies, which are on by default; what they refuse is asked for here.
tests/e2e/conftest.py puts this file last. It needs the log of a whole run, so alone it makes the path's first steps.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.chart.helm import rendered
from tests.chart.rights import OPERATOR, denied, grants, unused, uses
from tests.testbed.cluster import KubectlError, audit_lines
from tests.testbed.forbidden import FORBIDDEN, foreign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = pytest.mark.kind
FEWEST_KINDS_OF_REQUEST = 30


@pytest.fixture(scope="module")
def log(stage: Stage) -> list[str]:
    whole = audit_lines(stage.cluster.audit_log)
    if len(uses(whole)) < FEWEST_KINDS_OF_REQUEST:
        pytest.skip("the audit log has no whole run in it: run all of tests/e2e")
    return whole


def test_nothing_was_denied(log: list[str]) -> None:
    assert denied(uses(log)) == []


def test_nothing_is_granted_that_was_not_used(log: list[str], stage: Stage) -> None:
    values = json.loads(
        stage.helm("get", "values", "slm-operator", "--all", "--output", "json", "--namespace", "slm-system")
    )
    plugin = values["config"]["devicePlugin"]
    sets = (f"config.devicePlugin.{name}={plugin[name]}" for name in ("namespace", "configMap"))
    assert unused(grants(rendered(*sets), "slm-operator"), uses(log)) == []


@pytest.fixture(scope="module")
def stolen(stage: Stage) -> Iterator[str]:
    """A namespace with what is not the operator's to change."""
    stage.cluster.kubectl("create", "namespace", "stolen")
    stage.cluster.kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=stolen", "--timeout=120s")
    foreign(stage.cluster, "stolen")
    yield "stolen"
    stage.cluster.kubectl("delete", "namespace", "stolen", "--wait=false")


@pytest.mark.parametrize("name", FORBIDDEN)
def test_request_of_a_stolen_token_is_refused(stage: Stage, stolen: str, name: str) -> None:
    arguments, stdin = FORBIDDEN[name].request(stolen, stage.cluster.node)
    with pytest.raises(KubectlError, match=FORBIDDEN[name].words):
        stage.cluster.kubectl(f"--as={OPERATOR}", *arguments, stdin=stdin)
