"""A network for pods that kwok only plays: the API server reaches a pod's address at a server on loopback.

The API server goes to pods and kubelets through an egress proxy, as it does in clusters whose control plane stands
elsewhere (EgressSelectorConfiguration, HTTPConnect). Here that proxy is this one, on a socket in a folder of its own: what
has an engine assigned goes to it, loopback goes where it says, and everything else is refused.
"""

import asyncio
import contextlib
import json
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.hostile_engine import Answer

PIECE_BYTES = 1 << 16


class PodNetwork:
    """Engines by `address:port`, each answering every request in its way; `asked` tells of every request."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        """Address and headers of every request that reached an engine."""
        self._socket = folder / "egress"
        self.config = folder / "egress.json"
        self._ports: dict[str, int] = {}
        self._runners: list[web.AppRunner] = []
        self._loop = asyncio.new_event_loop()

    def assign(self, address: str, answer: Answer, *, host: str = "127.0.0.1", port: int = 0) -> str:
        """Have this address answered; gives the URL at which the engine is found on loopback."""

        async def seen(request: web.Request) -> web.StreamResponse:
            self.asked.append((address, dict(request.headers)))
            return await answer(request)

        async def start() -> int:
            application = web.Application()
            application.router.add_route("*", "/{path:.*}", seen)
            runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            self._runners.append(runner)
            site = web.TCPSite(runner, host, port)
            await site.start()
            return int(runner.addresses[0][1])

        self._ports[address] = self._run(start())
        return f"http://{host}:{self._ports[address]}"

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Serve while the block lasts, in a thread of its own."""
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            server = self._run(asyncio.start_unix_server(self._tunnel, self._socket))
            transport = {"uds": {"udsName": str(self._socket)}}
            selection = {"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": transport}}
            head = {"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration"}
            self.config.write_text(json.dumps(head | {"egressSelections": [selection]}))
            yield
            server.close()
        finally:
            self._run(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _end(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            target = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            host, _, port = target.rpartition(":")
            if target in self._ports:
                host, port = "127.0.0.1", str(self._ports[target])
            elif not host.startswith("127."):
                writer.write(b"HTTP/1.1 502 nobody is there\r\n\r\n")
                await writer.drain()
                return
            inner, outer = await asyncio.open_connection(host, int(port))
            with contextlib.closing(outer):
                writer.write(b"HTTP/1.1 200 connected\r\n\r\n")
                await asyncio.gather(_copy(reader, outer), _copy(inner, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@contextlib.contextmanager
def pod_network() -> Iterator[PodNetwork]:
    """A network for one control plane, whose API server is started with `--egress-selector-config-file`."""
    folder = Path(tempfile.mkdtemp(prefix="pods-"))  # NB: a short path: a socket's may have 107 characters
    try:
        network = PodNetwork(folder)
        with network.open():
            yield network
    finally:
        shutil.rmtree(folder, ignore_errors=True)
