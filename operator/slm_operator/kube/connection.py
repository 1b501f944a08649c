"""One authenticated connection to an API server, shared by Kopf's watches and by our own requests.

Credentials are read by the `kubernetes` package (kubeconfig with exec plugins, or the pod's service account with
rotating tokens), because that is the part of a client that is hard to get right. Requests go through one aiohttp
session, and not through the package's generated methods: on the machine where this was decided importing
`kubernetes.aio` cost 5.6 MiB and 0.2 s, while its typed pods cost 57 KB each and build models we throw away. Kopf takes
the same session (`kopf.AiohttpSession`), so there is one pool of connections and one place that authenticates.

Assumes one event loop. Must never log a header, and never follow a redirect: behind the API server's proxy an engine
answers, and what it says must not choose where the next request goes, least of all one with credentials.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from slm_operator.decoding import decode
from slm_operator.kube import credentials
from slm_operator.kube.errors import Unavailable
from slm_operator.kube.objects_taken import TakenEvents, taken_page
from slm_operator.kube.transport import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from slm_operator.kube.objects_taken import Taker
    from slm_operator.kube.transport import Request

log = logging.getLogger(__name__)

REQUEST_SECONDS = 30.0

ConfigException = credentials.ConfigException
"""A kubeconfig that cannot be used. Its message names the file or the missing entry."""


class Redirected(aiohttp.ClientConnectionError):
    """The answer was a redirect. A connection error, so that Kopf asks again later, as after any other."""


@dataclass(slots=True)
class Connection:
    """How to reach the API server: the transport of our own requests, and sessions for Kopf."""

    configuration: Any
    namespace: str = "default"
    """Of the kubeconfig's context."""
    _sessions: list[aiohttp.ClientSession] = field(default_factory=list)
    _context: ssl.SSLContext | None = None

    @property
    def server(self) -> str:
        """Base URL of the API server."""
        return str(self.configuration.host).rstrip("/")

    def session(self) -> aiohttp.ClientSession:
        """The session for our own requests, made anew when it was closed."""
        if not self._sessions or self._sessions[0].closed:
            self._sessions[:1] = [self.new_session(None)]
        return self._sessions[0]

    async def send(self, request: Request) -> Answer:
        """As `Transport` says."""
        try:
            async with self.session().request(
                request.method,
                self.server + request.path,
                params=request.params,
                data=request.body,
                headers={"Content-Type": request.content_type} if request.body is not None else None,
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as response:
                whole = request.most_bytes is None or response.status >= 400
                body = await (response.read() if whole else _first(response, request.most_bytes or 0))
                return Answer(status=response.status, body=body, retry_after=response.headers.get("Retry-After"))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{request.method} {request.path}: {type(error).__name__}: {error}") from error

    def watching_session(self, taker: Taker) -> aiohttp.ClientSession:
        """A session for Kopf, with `taker` taking what it lists and watches out of the answers.

        Kopf closes the one it has and asks for another when credentials were refused.
        """
        session = self.new_session(taker)
        self._sessions.append(session)
        return session

    def new_session(self, taker: Taker | None) -> aiohttp.ClientSession:
        """An authenticated session without a limit on connections: each watch holds one for ever."""

        class Response(aiohttp.ClientResponse):
            async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
                await super().start(connection)
                if taker is not None and taker.takes(self.url) and self.url.query.get("watch") == "true":
                    events = TakenEvents(self.content, self.url, taker)
                    self.content = events  # type: ignore[assignment]  # for who iterates it
                return self

            async def json(self, **_: Any) -> Any:
                if taker is not None and self.status == 200 and taker.takes(self.url):
                    return await taken_page(self.content, self.url, taker)
                return decode(await self.read())

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls()),
            headers={"User-Agent": "slm-operator"},
            middlewares=(self._guard,),
            response_class=Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self.configuration.proxy,
        )

    async def close(self) -> None:
        """Close what is open."""
        for session in self._sessions:
            await session.close()

    async def _guard(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """What holds for every request of every session, whatever its caller asked for."""
        await self._authorize(request)
        try:
            answer = await handler(request)
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError):
            self._read_certificates()  # a rotated CA, or our own certificate has run out: the next attempt has the new
            raise
        if answer.status == 401:
            self._read_certificates()
        refuse_redirect(answer)
        return answer

    async def _authorize(self, request: aiohttp.ClientRequest) -> None:
        """Credentials, for the API server and for nobody else."""
        if _origin(request.url) != _origin(URL(self.server)):
            return
        for setting in (await self.configuration.auth_settings()).values():
            if setting["in"] == "header" and setting["value"]:
                request.headers[setting["key"]] = setting["value"]

    def _read_certificates(self) -> None:
        """Take what the files hold now into the context that all sessions share: only new connections look at it."""
        settings, context = self.configuration, self._context
        if context is None:
            return
        try:
            if settings.ssl_ca_cert:
                context.load_verify_locations(cafile=settings.ssl_ca_cert)
            if settings.cert_file:
                context.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
        except (OSError, ssl.SSLError) as error:  # half written: the next refusal reads them again
            log.warning("certificates not read", extra={"because": str(error)})

    def _tls(self) -> ssl.SSLContext | bool:
        if self.server.startswith("http://"):
            return True
        if self._context is None:
            self._context = self._new_context()
        return self._context

    def _new_context(self) -> ssl.SSLContext:
        settings = self.configuration
        context = ssl.create_default_context(cafile=settings.ssl_ca_cert, cadata=settings.ca_cert_data)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, keyfile=settings.key_file)
        if not settings.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if settings.disable_strict_ssl_verification:
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context


async def _first(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The beginning of an answer, whatever its sender was asked for."""
    pieces, left = [], most_bytes
    while left and (piece := await response.content.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def refuse_redirect(answer: aiohttp.ClientResponse) -> None:
    """Raises Redirected."""
    if 300 <= answer.status < 400:
        answer.close()
        raise Redirected(f"the answer is a redirect ({answer.status}), and none is followed")


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    return url.scheme, url.host, url.port


async def connect(
    kubeconfig: Path | None = None, context: str | None = None, *, in_cluster: bool = False
) -> Connection:
    """A connection by kubeconfig (a given file, else KUBECONFIG, else ~/.kube/config), or as a pod.

    Raises ConfigException.
    """
    configuration = credentials.Configuration()
    if in_cluster:
        credentials.load_incluster_config(client_configuration=configuration)
        return Connection(configuration=configuration)
    await credentials.load_kube_config(
        config_file=str(kubeconfig) if kubeconfig is not None else None,
        context=context,
        client_configuration=configuration,
        persist_config=False,
    )
    return Connection(configuration=configuration, namespace=_namespace(kubeconfig, context))


def _namespace(kubeconfig: Path | None, context: str | None) -> str:
    """The namespace of the context that is used."""
    contexts, active = credentials.list_kube_config_contexts(str(kubeconfig) if kubeconfig is not None else None)
    used = next((c for c in contexts if c["name"] == context), active)
    return str(used["context"].get("namespace") or "default")
