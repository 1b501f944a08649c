"""The release's life on a real API server, where kwok plays the operator's pods. With the operator: tests/e2e/test_chart_life.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import builders as build
from tests.chart import life
from tests.testbed.control_plane import control_plane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.control_plane import ControlPlane

pytestmark = [pytest.mark.control_plane, pytest.mark.slow]
MODEL = build.manifest("SLMDeployment", "kept", {"model": {"uri": "hf://facebook/opt-125m"}}, namespace="default")


@pytest.fixture(scope="module")
def own() -> Iterator[ControlPlane]:
    """One of its own: other tests of the session have CRDs that no release owns."""
    with control_plane() as plane:
        plane.add_kwok_nodes(2)
        plane.kubectl("create", "namespace", "nvidia-device-plugin")
        yield plane


def test_upgrade_rollback_uninstall_and_return(own: ControlPlane, tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text('{"config": {"nodes": {"maxChanging": 2}}}')
    life.install(own, empty)
    own.kubectl("apply", "-f", "-", stdin=json.dumps(MODEL))
    uid = own.kubectl("get", "slmd/kept", "-o", "jsonpath={.metadata.uid}")

    life.upgrade_and_roll_back(own, tmp_path, lambda: use_newer_field(own))
    assert own.kubectl("get", "slmd/kept", "-o", "jsonpath={.spec.newer}") == "used"
    values = life.uninstall(own, tmp_path)
    assert json.loads(values.read_text()) == json.loads(empty.read_text())
    assert own.kubectl("get", "slmd/kept", "-o", "jsonpath={.metadata.uid}") == uid, "Helm removes no CRD"

    life.install(own, values, release="another-name")
    assert own.kubectl("get", "slmd/kept", "-o", "jsonpath={.metadata.uid}") == uid
    assert len(life.left_behind(own, "another-name")) > 10
    life.uninstall(own, tmp_path, "another-name")
    life.plain_to_release(own, values)
    assert own.kubectl("get", "slmd/kept", "-o", "jsonpath={.metadata.uid}") == uid
    assert len(life.left_behind(own)) > 10


def use_newer_field(own: ControlPlane) -> None:
    own.kubectl("patch", "slmd/kept", "--type=merge", "--patch", '{"spec": {"newer": "used"}}')
