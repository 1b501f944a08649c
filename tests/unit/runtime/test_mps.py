"""The private MPS daemon, against a stand-in for nvidia-cuda-mps-control."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from slm_core.failure import EngineFault, Failure
from slm_runtime import engine_process, mps

from tests.unit.runtime.test_engine_process import started

ONE, OTHER = os.getpid(), os.getppid()  # two living processes


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that names the daemon's clients."""
    file = tmp_path / "clients"
    file.write_text(f"{ONE} {OTHER}\n")
    monkeypatch.setenv("MPS_TEST_CLIENTS", str(file))
    return file


@pytest.mark.usefixtures("control", "clients")
async def test_each_engine_must_be_attached_by_a_process_of_its_own() -> None:
    daemon = await mps.start_daemon()
    await daemon.verify([{ONE, 7}, {OTHER}])
    with pytest.raises(EngineFault, match="1 of 2 engines are attached") as raised:
        await daemon.verify([{ONE, OTHER}, {7}])
    assert raised.value.failure is Failure.SHARING
    await daemon.stop()


@pytest.mark.usefixtures("control")
async def test_a_daemon_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_TEST_BROKEN", "1")
    with pytest.raises(EngineFault, match="Failed to start: no device"):
        await mps.start_daemon()


@pytest.mark.slow
@pytest.mark.usefixtures("control")
async def test_killed_mps_daemon_leaves_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mps, "ANSWER_SECONDS", 0.3)
    monkeypatch.setenv("MPS_TEST_DEAF", "1")
    monkeypatch.setenv("MPS_TEST_SERVER", str(tmp_path / "server"))
    daemon = await mps.start_daemon()
    await until(lambda: is_alive(noted(tmp_path / "server")))
    await daemon.stop()
    await until(lambda: not is_alive(noted(tmp_path / "server")))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another process's life
            await asyncio.sleep(0.01)


def noted(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def is_alive(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return pid != "" and stat.exists() and ") Z " not in stat.read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("control")
async def test_an_engine_that_hangs_is_let_go_before_it_is_killed(
    clients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_process, "STOP_SECONDS", 0.3)
    monkeypatch.setenv("MPS_TEST_LET_GO", str(tmp_path / "let-go"))
    daemon = await mps.start_daemon()
    engine, _ = await started("stubborn")
    clients.write_text(f"{ONE}\n{engine.pid}\n")  # noqa: ASYNC240 - a file in memory
    await engine.stop(daemon.let_go)
    await daemon.stop()
    assert noted(tmp_path / "let-go").split() == ["4711", str(engine.pid)]
