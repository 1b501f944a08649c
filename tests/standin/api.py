"""The API server, as the stand-in's parts need it: follow objects, write some.

Plain `http.client` on purpose: up to six small processes run beside each other on a test node, and the official
client costs each of them seconds of start-up and 100 MB.
"""

import http.client
import json
import logging
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from .settings import place

WATCH_S = 240
RETRY_S = 1.0
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Api:
    """The API server of the cluster that this pod runs in, with the pod's own service account."""

    host: str

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Self:
        """Where Kubernetes tells every pod."""
        return cls(f"{env['KUBERNETES_SERVICE_HOST']}:{env['KUBERNETES_SERVICE_PORT']}")

    def follow(self, path: str, **selectors: str) -> Iterator[dict[str, dict[str, Any]]]:
        """Every object of a list by its name, now and after every change, for ever, through any disconnection."""
        while True:
            try:
                yield from self._one_watch(path, selectors)
            except (OSError, http.client.HTTPException, ValueError) as error:
                log.warning("watching %s: %s; again in %s s", path, error, RETRY_S)
                time.sleep(RETRY_S)

    def _one_watch(self, path: str, selectors: Mapping[str, str]) -> Iterator[dict[str, dict[str, Any]]]:
        with self.request("GET", f"{path}?{urlencode(selectors)}") as answer:
            page = json.load(answer)
        seen = {one["metadata"]["name"]: one for one in page["items"]}
        yield dict(seen)
        since = {"watch": "1", "resourceVersion": page["metadata"]["resourceVersion"], "timeoutSeconds": str(WATCH_S)}
        with self.request("GET", f"{path}?{urlencode({**selectors, **since})}") as answer:
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                name = event["object"]["metadata"]["name"]
                if event["type"] == "DELETED":
                    seen.pop(name, None)
                else:
                    seen[name] = event["object"]
                yield dict(seen)

    def write(self, method: str, path: str, body: Any, content_type: str = MERGE) -> None:
        """Send an object or a patch. Raises OSError when the API server does not take it."""
        with self.request(method, path, json.dumps(body).encode(), content_type):
            pass

    def get(self, path: str) -> dict[str, Any]:
        """One object. Raises OSError."""
        with self.request("GET", path) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def request(
        self, method: str, path: str, body: bytes | None = None, content_type: str = MERGE
    ) -> http.client.HTTPResponse:
        """An open answer. Raises OSError for every status that is no success."""
        account = place("/var/run/secrets/kubernetes.io/serviceaccount")
        tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        connection = http.client.HTTPSConnection(self.host, context=tls, timeout=WATCH_S + 30)
        # The kubelet renews the token: read it each time.
        headers = {
            "Authorization": f"Bearer {(account / 'token').read_text()}",
            "Content-Type": content_type,
            "Connection": "close",
        }
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        if answer.status >= 300:
            raise OSError(f"{method} {path}: {answer.status} {answer.read(500).decode(errors='replace')}")
        return answer
