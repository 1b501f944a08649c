"""The operator's image as it is built: small, without root, without tools, and able to run where nothing can be written."""

from __future__ import annotations

import json
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.testbed.stage import OPERATOR_IMAGE

if TYPE_CHECKING:
    from tests.testbed.docker_engine import Engine
    from tests.testbed.stage import Stage

pytestmark = pytest.mark.kind
MOST_BYTES = 120 << 20
LOCKED_DOWN = ("--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges")


@pytest.fixture
def engine(stage: Stage) -> Engine:
    return stage.cluster.engine


def test_image_is_small_enough_to_pull(engine: Engine) -> None:
    packer, size = zlib.compressobj(6), 0
    with subprocess.Popen(["docker", "save", OPERATOR_IMAGE], env=engine.env(), stdout=subprocess.PIPE) as save:
        assert save.stdout is not None
        while chunk := save.stdout.read(1 << 20):
            size += len(packer.compress(chunk))
    size += len(packer.flush())
    assert save.returncode == 0
    assert 20 << 20 < size <= MOST_BYTES


def test_image_runs_as_nobody_on_a_read_only_filesystem(engine: Engine) -> None:
    (config,) = json.loads(engine.docker("image", "inspect", "--format", "[{{json .Config}}]", OPERATOR_IMAGE))
    assert config["User"] == "65532:65532"
    assert "--config" in engine.docker("run", *LOCKED_DOWN, OPERATOR_IMAGE, "run", "--help")
    reported = engine.docker("run", *LOCKED_DOWN, "--entrypoint=kubectl-slm", OPERATOR_IMAGE, "--help")
    assert "Small language models on shared GPUs" in reported


def test_image_has_no_compiler_and_carries_the_runtime(engine: Engine) -> None:
    look = "for tool in gcc cc make git go; do command -v $tool; done; test -s /opt/slm/slm_runtime.pyz && echo runtime"
    assert engine.docker("run", *LOCKED_DOWN, "--entrypoint=sh", OPERATOR_IMAGE, "-c", look).split() == ["runtime"]
