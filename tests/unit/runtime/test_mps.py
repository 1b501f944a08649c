"""The private MPS daemon, against a stand-in for nvidia-cuda-mps-control that keeps to its commands."""

import os
from pathlib import Path

import pytest
from slm_runtime import mps
from slm_runtime.failure import EngineFault, Failure

CONTROL = """#!/bin/sh
if [ "$1" = -f ]; then
  [ -n "$MPS_TEST_BROKEN" ] && { echo "Failed to start: no device" > "$CUDA_MPS_LOG_DIRECTORY/control.log"; exit 1; }
  mkfifo "$CUDA_MPS_PIPE_DIRECTORY/control"
  echo $$ > "$CUDA_MPS_PIPE_DIRECTORY/pid"
  trap 'exit 0' TERM
  while [ -e "$CUDA_MPS_PIPE_DIRECTORY/pid" ]; do sleep 0.05; done
  exit 0
fi
read command rest
case "$command" in
  get_server_list) echo 4711 ;;
  get_client_list) for client in $MPS_TEST_CLIENTS; do echo "$client"; done ;;
  quit) rm "$CUDA_MPS_PIPE_DIRECTORY/pid" ;;
esac
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / mps.CONTROL
    program.write_text(CONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def folders() -> set[Path]:
    return set(Path("/tmp").glob("slm-mps-*"))


@pytest.mark.usefixtures("control")
async def test_a_daemon_counts_its_clients_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = folders()
    monkeypatch.setenv("MPS_TEST_CLIENTS", "101 102")
    daemon = await mps.start_daemon()
    await daemon.verify(2)
    with pytest.raises(EngineFault, match="2 of 3 engines are attached") as raised:
        await daemon.verify(3)
    assert raised.value.failure is Failure.SHARING
    await daemon.stop()
    assert folders() <= before


@pytest.mark.usefixtures("control")
async def test_a_daemon_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    before = folders()
    monkeypatch.setenv("MPS_TEST_BROKEN", "1")
    with pytest.raises(EngineFault, match="Failed to start: no device"):
        await mps.start_daemon()
    assert folders() <= before


@pytest.mark.parametrize(
    ("total_bytes", "replicas", "memory", "threads"),
    [(80 * 2**30, 4, "0=20480M", "25"), (143771 * 2**20, 3, "0=47923M", "33"), (16 * 2**30, 48, "0=341M", "2")],
)
def test_limits_are_those_of_the_device_plugin(total_bytes: int, replicas: int, memory: str, threads: str) -> None:
    assert mps.limits(total_bytes, replicas) == {
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": memory,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": threads,
    }
