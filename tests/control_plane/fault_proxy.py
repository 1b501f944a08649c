"""A proxy in front of the API server that answers, delays or cuts what a test chooses, and passes everything else on.

    with fault_proxy(plane) as proxy:
        proxy.faults.append(Fault("503", lambda request: request.method == "PATCH", share=0.5, answer=error(503, "...")))

Its kubeconfig names a CA file of its own, so that its certificate can be rotated. It must never change what passes.
"""

import asyncio
import contextlib
import json
import random
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.control_plane.gpu_fleet import TLS_CLOSE_SECONDS, tls_left_to_the_collector
from tests.testbed.control_plane import ControlPlane
from tests.testbed.ports import free_ports

NAMES = "IP:127.0.0.1"
LATE_S = 1.0
"""An answer that takes longer is counted as late: at rest it takes some milliseconds."""
HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}


@dataclass
class Fault:
    """What happens to requests that match: a share of them is delayed, and answered with status and body if there are any."""

    name: str
    matches: Callable[[web.BaseRequest], bool]
    share: float = 1.0
    status: int | None = None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    after: bool = False
    """The API server does it, and only the answer is lost."""
    then: Callable[[], None] | None = None
    """Called when it has happened."""
    met: int = 0


@dataclass
class FaultProxy:
    """A running proxy. `faults` may be changed at any time; the first that matches counts."""

    plane: ControlPlane
    folder: Path
    port: int
    faults: list[Fault] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    broken: int = 0
    """Requests and watches that the API server did not answer, or not to their end."""
    late: int = 0
    """Requests that it answered after more than LATE_S."""
    cuts: int = 0
    """Watches that were ended here."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _watches: set[asyncio.Task[object]] = field(default_factory=set)
    _runner: web.ServerRunner | None = None
    _session: aiohttp.ClientSession | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "proxied.kubeconfig"

    def cut_watches(self) -> None:
        """End every watch that is open now."""
        self._call(self._cut())

    def rotate_certificate(self) -> None:
        """Serve a certificate of a new CA from now on; the CA's file holds the new one alone."""
        self._call(self._close())
        make_certificate(self.folder, NAMES)
        self._call(self._open())

    def _call(self, what: object) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=30)  # type: ignore[arg-type]

    async def _open(self) -> None:
        if self._session is None:
            tls = ssl.create_default_context(cafile=self.plane.ca_file)
            tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=tls), auto_decompress=False
            )
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(*certificate_files(self.folder))
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=serving, reuse_address=True).start()

    async def _close(self) -> None:
        await self._cut()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _cut(self) -> None:
        for task in tuple(self._watches):
            task.cancel()
            self.cuts += 1

    async def _end(self) -> None:
        await self._close()
        if self._session is not None:
            await self._session.close()
        await asyncio.sleep(TLS_CLOSE_SECONDS)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = next((one for one in self.faults if one.matches(request)), None)
        if fault is not None and self.chance.random() < fault.share:
            fault.met += 1
            await asyncio.sleep(fault.delay_s)
            if fault.after:
                await self._pass_on(request, lost=True)
            if fault.then is not None:
                fault.then()
            if fault.status is not None:
                return web.Response(
                    status=fault.status, text=fault.body, headers=fault.headers, content_type="application/json"
                )
        return await self._pass_on(request)

    async def _pass_on(self, request: web.BaseRequest, *, lost: bool = False) -> web.StreamResponse:
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        is_watch = request.query.get("watch") == "true"
        task, began = asyncio.current_task(), time.monotonic()
        assert task is not None
        if is_watch:
            self._watches.add(task)
        try:
            async with self._session.request(
                request.method,
                f"{self.plane.server}{request.path_qs}",
                headers=headers,
                data=await request.read() or None,  # NB: an empty body would get a content type
                timeout=aiohttp.ClientTimeout(total=None),
            ) as upstream:
                self.late += not is_watch and time.monotonic() - began > LATE_S
                if lost:
                    await upstream.read()
                    return web.Response()
                kept = {name: value for name, value in upstream.headers.items() if name.lower() not in HOP}
                answer = web.StreamResponse(status=upstream.status, headers=kept)
                await answer.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await answer.write(chunk)
                await answer.write_eof()
                return answer
        except aiohttp.ClientError:
            self.broken += 1
            if request.transport is not None:
                request.transport.abort()  # as the API server's own death would look
            return web.Response(status=502)
        finally:
            self._watches.discard(task)


def error(code: int, reason: str, message: str) -> str:
    """A Status as the API server answers it."""
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
    )


def gone() -> str:
    """A watch that says at once that its version was compacted away."""
    return json.dumps({"type": "ERROR", "object": json.loads(error(410, "Expired", "too old resource version"))}) + "\n"


def certificate_files(folder: Path) -> tuple[Path, Path]:
    """Where a certificate and its key lie."""
    return folder / "serving.crt", folder / "serving.key"


def make_certificate(folder: Path, names: str) -> tuple[Path, Path]:
    """A new key and a certificate that is its own CA, in place of those that lie there."""
    certificate, key = certificate_files(folder)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=testbed", "-addext", f"subjectAltName={names}"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return certificate, key


def kubeconfig_text(server: str, ca_file: Path, token: str) -> str:
    """A kubeconfig that names a CA file, so that the CA can be rotated under whoever reads it."""
    cluster = {"server": server, "certificate-authority": str(ca_file)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "p", "cluster": cluster}],
        "users": [{"name": "p", "user": {"token": token}}],
        "contexts": [{"name": "p", "context": {"cluster": "p", "user": "p"}}],
        "current-context": "p",
    }
    return json.dumps(config)


@contextlib.contextmanager
def fault_proxy(plane: ControlPlane, folder: Path) -> Iterator[FaultProxy]:
    """A proxy in a thread of its own, with a kubeconfig for whoever shall go through it."""
    proxy = FaultProxy(plane, folder, free_ports(1)[0])
    certificate, _ = make_certificate(folder, NAMES)
    proxy.kubeconfig.write_text(kubeconfig_text(f"https://127.0.0.1:{proxy.port}", certificate, plane.tokens["admin"]))
    thread = threading.Thread(target=proxy._loop.run_forever)
    thread.start()
    try:
        proxy._call(proxy._open())
        yield proxy
    finally:
        with tls_left_to_the_collector():
            proxy._call(proxy._end())
            proxy._loop.call_soon_threadsafe(proxy._loop.stop)
            thread.join()
            proxy._loop.close()
