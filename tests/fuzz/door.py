"""One API server as a door: a body goes in, what became of it comes out. One connection, kept alive."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.testbed.control_plane import ControlPlane

GROUP = "/apis/slm-operator.io/v1alpha1/namespaces/default"


@dataclass(slots=True)
class Door:
    connection: http.client.HTTPSConnection
    token: str
    accepted: int = 0
    refused: int = 0

    def ask(self, plural: str, kind: str, spec: Any, name: str = "fuzzed") -> dict[str, Any] | None:
        """The object as it would be stored, defaults and all; None when admission refuses it."""
        head = {"apiVersion": "slm-operator.io/v1alpha1", "kind": kind, "metadata": {"name": name}}
        self.connection.request(
            "POST",
            f"{GROUP}/{plural}?dryRun=All&fieldValidation=Strict",
            json.dumps(head | {"spec": spec}),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with self.connection.getresponse() as response:
            answer: dict[str, Any] = json.loads(response.read())
            status = response.status
        assert status in {201, 400, 422}, (status, answer)  # never 500, never a time-out
        if status == 201:
            self.accepted += 1
            return answer
        self.refused += 1
        assert len(answer["message"]) > 20, answer
        return None


def door(plane: ControlPlane) -> Door:
    at = urlsplit(plane.server)
    context = ssl.create_default_context(cafile=str(plane.ca_file))
    context.check_hostname = False
    assert at.hostname is not None
    return Door(http.client.HTTPSConnection(at.hostname, at.port, context=context, timeout=30), plane.tokens["admin"])
