"""Engines end, with all that they started and left, however they end."""

import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from slm_core.failure import EngineFault, Failure
from slm_runtime.engine_process import EngineProcess, Launch, free_port, start_engine
from slm_runtime.processes import group_of

# An engine that starts a worker, maps shared memory, says it is healthy, and ignores SIGTERM if asked to.
pytestmark = pytest.mark.slow
ENGINE = """
import http.server, mmap, os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else signal.SIG_DFL)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
shm = open("/dev/shm/slm-test-%d" % os.getpid(), "wb+")
shm.truncate(4096)
kept = mmap.mmap(shm.fileno(), 4096)
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *_): pass
print("RuntimeError: said for later", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


async def started(*words: str, cores: tuple[int, ...] = ()) -> tuple[EngineProcess, Path]:
    launch = Launch(command=(sys.executable, "-c", ENGINE, *words), timeout_seconds=60, cores=cores)
    engine = await start_engine(launch)
    return engine, Path(f"/dev/shm/slm-test-{engine.pid}")


@pytest.mark.parametrize("end", ["ours", "stubborn", "killed from outside"])
async def test_engine_leaves_no_process_and_no_shared_memory(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slm_runtime.engine_process.STOP_SECONDS", 0.5)
    engine, shared = await started(end)
    assert len(group_of(engine.pid)) == 2
    assert shared.exists()
    if end == "killed from outside":
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineFault, match="/metrics does not answer"):
            await engine.get("/metrics")
        assert await engine.is_dying()
        death = engine.death()
        assert death.failure is Failure.DIED
        assert re.search(r"killed by SIGKILL.*said for later", str(death))
    else:
        assert not await engine.is_dying()
    await engine.stop()
    assert group_of(engine.pid) == []
    assert not shared.exists()
    await engine.stop()


async def test_an_engine_given_up_while_it_starts_leaves_nothing() -> None:
    never = Launch(command=(sys.executable, "-c", "import time; time.sleep(600)"), timeout_seconds=0.3)
    with pytest.raises(EngineFault, match="/health did not answer"):
        await start_engine(never)


def test_a_free_port_can_be_bound() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
