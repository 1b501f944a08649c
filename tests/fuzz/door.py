"""One API server as a door: a body goes in, what became of it comes out. One connection, kept alive."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slm_operator.cli.inputs.admission.structure import as_sent

if TYPE_CHECKING:
    from tests.testbed.control_plane import ControlPlane

GROUP = "/apis/slm-operator.io/v1alpha1/namespaces/default"


@dataclass(slots=True)
class Door:
    connection: http.client.HTTPSConnection
    token: str
    accepted: int = 0
    refused: int = 0

    def ask(self, kind: str, spec: Any, name: str = "fuzzed") -> dict[str, Any] | None:
        """The object as it would be stored, defaults and all; None when admission refuses it."""
        status, answer = self.create(fuzzed(kind, spec, name))
        assert status in {201, 400, 422}, (status, answer)  # never 500, never a time-out
        if status == 201:
            self.accepted += 1
            return answer
        self.refused += 1
        assert len(answer["message"]) > 20, answer
        return None

    def create(self, manifest: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the answer to an object that is not kept, read as strictly as kubectl has it read."""
        self.connection.request(
            "POST",
            f"{GROUP}/{manifest['kind'].lower()}s?dryRun=All&fieldValidation=Strict",
            json.dumps(manifest),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with self.connection.getresponse() as response:
            return response.status, json.loads(response.read())


def fuzzed(kind: str, spec: Any, name: str = "fuzzed") -> Any:
    """A manifest with a spec, as kubectl would send it."""
    head = {"apiVersion": "slm-operator.io/v1alpha1", "kind": kind, "metadata": {"name": name}}
    return as_sent(head | {"spec": spec})


def door(plane: ControlPlane) -> Door:
    at = urlsplit(plane.server)
    context = ssl.create_default_context(cafile=str(plane.ca_file))
    context.check_hostname = False
    assert at.hostname is not None
    return Door(http.client.HTTPSConnection(at.hostname, at.port, context=context, timeout=30), plane.tokens["admin"])
