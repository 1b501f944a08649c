"""The health check shipped for Argo CD, run by a real Lua, on statuses as the planner writes them."""

from pathlib import Path
from typing import Any

import lupa
import pytest

HEALTH = (Path(__file__).parents[2] / "docs/how-to/argocd/health.lua").read_text()
READY = {"type": "Ready", "status": "True", "message": "all is well"}
WAITS = {"type": "Ready", "status": "False", "message": "measuring"}
STALLED = {"type": "Stalled", "status": "True", "message": "no node opted in"}


def health(found: dict[str, Any]) -> tuple[str, str]:
    """As Argo CD runs it: the object is the global `obj`, the answer a table."""
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(found, recursive=True)
    answer = lua.execute(HEALTH)
    return answer["status"], answer["message"]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(None, ("Progressing", "not seen by the operator yet"), id="new"),
        pytest.param({"phase": "Pending"}, ("Progressing", "not seen by the operator yet"), id="no conditions"),
        pytest.param({"conditions": [READY], "observedGeneration": 2}, ("Healthy", "all is well"), id="ready"),
        pytest.param(
            {"conditions": [READY], "observedGeneration": 1},
            ("Progressing", "the operator has not seen the newest spec yet"),
            id="ready for an older spec",
        ),
        pytest.param({"conditions": [WAITS], "observedGeneration": 2}, ("Progressing", "measuring"), id="waiting"),
        pytest.param(
            {"conditions": [WAITS, STALLED], "observedGeneration": 2}, ("Degraded", "no node opted in"), id="stalled"
        ),
        pytest.param({"conditions": [], "observedGeneration": 2}, ("Progressing", "not decided yet"), id="undecided"),
    ],
)
def test_argocd_health_of_a_deployment(status: dict[str, Any] | None, expected: tuple[str, str]) -> None:
    found: dict[str, Any] = {"metadata": {"generation": 2}}
    assert health(found | ({"status": status} if status is not None else {})) == expected
