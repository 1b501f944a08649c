"""The routers that are compared: how each is started, how an engine is taken out, how it is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slm_core.pack_pod import engine_name
from slm_operator.manifests.router import router_config

from tests.testbed.debian import program
from tests.testbed.gotools import cache_dir, one_at_a_time

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable

    from slm_operator.manifests.router import Router

    from benchmarks.router.bed import Pack

VLLM_ROUTER = "vllm-router==0.1.17"


class Candidate(Protocol):
    """A router. Ports and limits are those of `Router`, whatever the candidate makes of them."""

    name: str
    ends_on: signal.Signals
    """What its container would be sent to end in order."""

    def command(self, router: Router, folder: Path) -> list[str]:
        """How it is started; what it reads is written into the folder."""
        ...

    async def set_out(self, pack: Pack, index: int, *, out: bool) -> None:
        """Take an engine out, or in again."""
        ...


@dataclass(frozen=True, slots=True)
class HAProxy:
    """With the product's configuration. `edit` makes another of it, to see what a line of it is for."""

    name: str = "haproxy"
    ends_on: signal.Signals = signal.SIGUSR1
    edit: Callable[[str], str] = str

    def command(self, router: Router, folder: Path) -> list[str]:
        """With the product's file, on loopback only."""
        text = self.edit(router_config(router).replace("bind :", "bind 127.0.0.1:"))
        (folder / "haproxy.cfg").write_text(text)
        return [program("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]

    async def set_out(self, pack: Pack, index: int, *, out: bool) -> None:
        """By the supervisor, which is asked."""
        name = engine_name(index)
        (pack.supervisor.drained.add if out else pack.supervisor.drained.discard)(name)
        await pack.supervisor.told(name)


@dataclass(frozen=True, slots=True)
class VllmRouter:
    """With the settings that come nearest: two choices by load, no retries unless asked, checks every second."""

    name: str = "vllm-router"
    ends_on: signal.Signals = signal.SIGTERM
    retries: bool = False

    def command(self, router: Router, folder: Path) -> list[str]:  # noqa: ARG002 - the protocol's
        """All by flags."""
        engines = [f"http://127.0.0.1:{port}" for port in router.engine_ports]
        limit = str(len(engines) * router.most_in_flight)
        words = [
            *("--host", "127.0.0.1", "--port", str(router.port), "--worker-urls", *engines, "--policy", "power_of_two"),
            *("--prometheus-port", str(router.metrics_port), "--health-check-interval-secs", "1"),
            *("--health-failure-threshold", "1", "--health-success-threshold", "1", "--log-level", "warning"),
            *("--worker-startup-check-interval", "1", "--max-concurrent-requests", limit, "--queue-size", "0"),
        ]
        return [str(vllm_router()), *words, *([] if self.retries else ["--disable-retries"])]

    async def set_out(self, pack: Pack, index: int, *, out: bool) -> None:
        """By an order on the port of the requests."""
        engine = f"http://127.0.0.1:{pack.router.engine_ports[index]}"
        path = "remove_worker" if out else "add_worker"
        async with pack.http.post(f"{pack.url}/{path}", params={"url": engine}) as answer:
            await answer.read()


def vllm_router() -> Path:
    """The program, in an environment of its own in the cache: it brings packages that the product must not have."""
    folder = cache_dir() / VLLM_ROUTER.replace("==", "-")
    program, uv = folder / "bin" / "vllm-router", cache_dir() / "uv/bin/uv"
    with one_at_a_time("vllm-router"):
        if not program.exists():
            for words in (
                ["venv", "--clear", folder],
                ["pip", "install", "--python", folder / "bin/python", VLLM_ROUTER],
            ):
                subprocess.run([uv, *words], check=True, capture_output=True)
    return program


@contextlib.asynccontextmanager
async def running(candidate: Candidate, router: Router) -> AsyncIterator[Process]:
    """The router's process, killed at the end of the block. Its log is a note to whatever fails inside."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = await asyncio.to_thread(candidate.command, router, Path(folder))
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said)
        try:
            yield process
        except BaseException as error:
            error.add_note(log.read_text(errors="replace")[-4000:])
            raise
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
