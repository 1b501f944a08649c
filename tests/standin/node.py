"""The node's object, as the stand-in's parts need it: watch it, label it.

Plain `http.client` on purpose: up to six small processes run beside each other on a test node, and the official
client costs each of them seconds of start-up and 100 MB.
It must never write anything but labels.
"""

import http.client
import itertools
import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar
from urllib.parse import urlencode

from .settings import FAULTS_ANNOTATION, Faults

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
WATCH_S = 240
RETRY_S = 1.0
T = TypeVar("T")

log = logging.getLogger(__name__)


class Node(Protocol):
    """The node this daemon runs on."""

    def watch(self) -> Iterator[dict[str, Any]]:
        """Yield the node's metadata now and after every change, for ever, through any disconnection."""
        ...

    def label(self, labels: Mapping[str, str | None]) -> None:
        """Set labels, remove those that are None. Raises OSError when the API server does not take it."""
        ...


@dataclass(frozen=True, slots=True)
class ApiNode:
    """The node as the API server has it, with the pod's own service account."""

    name: str
    host: str

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """The node that `NODE_NAME` names, on the cluster that this pod runs in."""
        return cls(env["NODE_NAME"], f"{env['KUBERNETES_SERVICE_HOST']}:{env['KUBERNETES_SERVICE_PORT']}")

    def watch(self) -> Iterator[dict[str, Any]]:
        """See `Node`. List first, then watch from there; begin again whenever the stream ends."""
        while True:
            try:
                yield from self._one_watch()
            except (OSError, http.client.HTTPException, ValueError) as error:
                log.warning("watching node %s: %s; again in %s s", self.name, error, RETRY_S)
                time.sleep(RETRY_S)

    def _one_watch(self) -> Iterator[dict[str, Any]]:
        selector = {"fieldSelector": f"metadata.name={self.name}"}
        with self._request("GET", f"/api/v1/nodes?{urlencode(selector)}") as answer:
            nodes = json.load(answer)
        yield from (node["metadata"] for node in nodes["items"])
        since = {"watch": "1", "resourceVersion": nodes["metadata"]["resourceVersion"], "timeoutSeconds": str(WATCH_S)}
        with self._request("GET", f"/api/v1/nodes?{urlencode(selector | since)}") as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["object"]["metadata"]

    def label(self, labels: Mapping[str, str | None]) -> None:
        """See `Node`. A merge patch, so that labels of others stay."""
        body = json.dumps({"metadata": {"labels": labels}}).encode()
        with self._request("PATCH", f"/api/v1/nodes/{self.name}", body):
            pass

    def _request(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        connection = http.client.HTTPSConnection(self.host, context=tls, timeout=WATCH_S + 30)
        # The kubelet renews the token: read it each time.
        headers = {
            "Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}",
            "Content-Type": "application/merge-patch+json",
            "Connection": "close",
        }
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise OSError(f"{method} {path}: {answer.status} {answer.read(500).decode(errors='replace')}")
        return answer


def faults_of(metadata: Mapping[str, Any]) -> Faults:
    """The faults that the node's annotation asks for; a malformed one is reported and means none."""
    try:
        return Faults.parse((metadata.get("annotations") or {}).get(FAULTS_ANNOTATION))
    except ValueError as error:
        log.error("%s", error)  # noqa: TRY400 - the traceback says nothing more
        return Faults()


def follow_faults(node: Node, tell: Callable[[Faults], None]) -> Faults:
    """The node's faults now; each later change is reported from a thread of its own."""
    stream = changes(faults_of(metadata) for metadata in node.watch())
    first = next(stream)

    def follow() -> None:
        for faults in stream:
            tell(faults)
            log.info("faults: %s", faults)

    threading.Thread(target=follow, name="faults", daemon=True).start()
    return first


def changes(values: Iterable[T]) -> Iterator[T]:
    """The first value, and each that differs from the one before it."""
    return (value for value, _same in itertools.groupby(values))
