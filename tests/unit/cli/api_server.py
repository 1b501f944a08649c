"""An API server that answers from a table, on loopback, with a kubeconfig that leads to it."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUP = "/apis/slm-operator.io/v1alpha1"


def failure(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}


@dataclass
class ApiServer:
    answers: dict[str, Any] = field(default_factory=dict)
    """Path to the body of a GET (text is a page, anything else JSON), or to (status, body)."""
    created: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of POSTs."""
    patched: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of PATCHes."""
    deleted: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of DELETEs."""
    asked: list[str] = field(default_factory=list)
    """Every method and path."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    """Verb and resource that access reviews deny."""
    url: str = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if method == "PATCH":
            self.patched.append(body)
            reported = self.answers.get(f"PATCH {path}")
            return reported if isinstance(reported, tuple) else (200, body)
        if method == "DELETE":
            self.deleted.append(body)
            reported = self.answers.get(f"DELETE {path}")
            return reported if isinstance(reported, tuple) else (200, {})
        if method == "POST" and path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            return 201, body | {"status": {"allowed": (asked["verb"], asked["resource"]) not in self.denied}}
        if method == "POST":
            self.created.append(body)
            reported = self.answers.get(f"POST {path}")
            return reported if isinstance(reported, tuple) else (201, body)
        found = self.answers.get(path)
        if found is None:
            plural, _, name = path.rpartition("/")
            return failure(404, f'{plural.rpartition("/")[2]}.slm-operator.io "{name}" not found')
        return found if isinstance(found, tuple) else (200, found)


def serve(server: ApiServer, kubeconfig: Path) -> Iterator[ApiServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(*server.answer("GET", unquote(urlsplit(self.path).path), None))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._say(*server.answer("POST", unquote(urlsplit(self.path).path), body))

        def do_DELETE(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._say(*server.answer("DELETE", unquote(urlsplit(self.path).path), body))

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._say(*server.answer("PATCH", unquote(urlsplit(self.path).path), body))

        def _say(self, status: int, body: Any) -> None:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a client that no longer waits
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Tests read standard error."""

    class Listening(ThreadingHTTPServer):
        request_queue_size = 128  # commands ask many things at once, and a full queue costs a second

    listening = Listening(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    server.url = f"http://127.0.0.1:{listening.server_port}"
    kubeconfig.write_text(json.dumps(kubeconfig_for(server.url)))
    yield server
    listening.shutdown()
    thread.join()
    listening.server_close()


def kubeconfig_for(url: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
