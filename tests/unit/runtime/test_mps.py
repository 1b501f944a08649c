"""The private MPS daemon, against a stand-in for nvidia-cuda-mps-control."""

import pytest
from slm_core.failure import EngineFault, Failure
from slm_runtime import mps


@pytest.mark.usefixtures("control")
async def test_a_daemon_counts_its_clients_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_TEST_CLIENTS", "101 102")
    daemon = await mps.start_daemon()
    await daemon.verify(2)
    with pytest.raises(EngineFault, match="2 of 3 engines are attached") as raised:
        await daemon.verify(3)
    assert raised.value.failure is Failure.SHARING
    await daemon.stop()


@pytest.mark.usefixtures("control")
async def test_a_daemon_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_TEST_BROKEN", "1")
    with pytest.raises(EngineFault, match="Failed to start: no device"):
        await mps.start_daemon()
