"""Where profiles live on the control plane: nodes with GPUs, an operator whose clock is set by hand, and what status says.

kwok plays the kubelets; where a pod is to hold its GPU until a test ends it, its node is nobody's.
"""

import json
from pathlib import Path
from typing import Any

from tests import builders as build
from tests.control_plane.gpu_fleet import GPU, MODEL, shown_labels
from tests.control_plane.operator_process import operator, wait_until
from tests.testbed.control_plane import ControlPlane
from tests.testbed.faketime import faketime_library
from tests.testbed.kwok_nodes import kwok_node

SETTINGS = """\
watch: {{intervalSeconds: 0}}
profiling: {{priorityClassName: profiles}}
profiles: {{libraryNamespaces: [nowhere, {library}]}}
"""
"""A library that does not exist is no library, and no harm."""
RUNNING = json.dumps(
    {
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [
                {
                    "name": "engine",
                    "image": "none",
                    "imageID": "",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                }
            ],
        }
    }
)


class Stage:
    """The plane, a namespace of it, and an operator whose clock is set by hand."""

    def __init__(self, plane: ControlPlane, namespace: str, folder: Path) -> None:
        self.plane, self.namespace = plane, namespace
        self.clock, settings = folder / "clock", folder / "settings.yaml"
        self.set_clock("+0")
        settings.write_text(SETTINGS.format(library=namespace))
        self.arguments = (f"--config={settings}",)
        self.environment = {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_clock(self, offset: str) -> None:
        self.clock.write_text(offset)

    def works(self) -> Any:
        return operator(self.plane, *self.arguments, environment=self.environment)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.plane.kubectl(*arguments, "--namespace", self.namespace, stdin=stdin)

    def get(self, what: str) -> Any:
        return json.loads(self.kubectl("get", what, "-o", "json"))

    def apply(self, body: dict[str, Any]) -> None:
        self.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(body))

    def measures(self, name: str, pool: str) -> None:
        spec = {"model": MODEL, "gpu": {"nodeSelector": {"pool": pool}}}
        self.apply(build.manifest("SLMProfile", name, spec))

    def says(self, name: str) -> tuple[str, str]:
        """Phase and reason of a profile."""
        status = self.get(f"slmp/{name}").get("status") or {}
        reasons = [one["reason"] for one in status.get("conditions", ()) if one["type"] == "Profiled"]
        return status.get("phase", ""), next(iter(reasons), "")

    def said(self, name: str, reason: str) -> dict[str, Any]:
        """Status of a profile, once it says so."""
        wait_until(lambda: self.says(name)[1] == reason)
        status: dict[str, Any] = self.get(f"slmp/{name}")["status"]
        return status

    def adds_node(self, pool: str, prefix: str = "") -> str:
        (made,) = self.plane.add_kwok_nodes(1, prefix=prefix or pool, labels=labels(pool), resources={GPU: 1})
        return made

    def adds_node_of_nobody(self, pool: str, like: str) -> None:
        """A node without a kubelet: what is placed there holds its GPU until it is ended. Logs are kwok's, as on `like`."""
        body = kwok_node(f"{pool}-held", labels(pool), {GPU: 1})
        del body["metadata"]["annotations"]
        self.plane.kubectl("create", "-f", "-", stdin=json.dumps(body))
        theirs = json.loads(self.plane.kubectl("get", f"node/{like}", "-o", "json"))["status"]
        status = body["status"] | {name: theirs[name] for name in ("addresses", "daemonEndpoints", "conditions")}
        patch = json.dumps({"status": status})
        self.plane.kubectl("patch", f"node/{pool}-held", "--subresource=status", "--type=merge", "-p", patch)

    def pods(self) -> list[Any]:
        return list(self.get("pods")["items"])

    def jobs(self) -> list[Any]:
        return list(self.get("jobs")["items"])

    def runs(self, pod: str) -> None:
        """What a kubelet would say of a pod on a node of nobody."""
        self.kubectl("patch", f"pod/{pod}", "--subresource=status", "--type=merge", "-p", RUNNING)


def labels(pool: str) -> dict[str, str]:
    return {"slm-operator.io/managed": "true", "pool": pool} | shown_labels("version: v1", 1)
