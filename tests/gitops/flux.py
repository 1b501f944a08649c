"""Flux's kustomize-controller beside a control plane, and a git repository for it.

    commit(files) --> archive on loopback --> GitRepository.status.artifact --> kustomize-controller --> API server

The controller is Flux's own, with its defaults. The repository's half is played: source-controller's whole part in this is
to serve a revision as an archive and to write where it is, which is the documented contract between the two
(https://fluxcd.io/flux/components/source/gitrepositories/#artifact).
It must never serve anything but loopback.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import tarfile
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.testbed.cluster import apply_crds
from tests.testbed.component import Component
from tests.testbed.gotools import binary, sources
from tests.testbed.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.testbed.control_plane import ControlPlane

NAMESPACE = "flux-system"
CRDS = ("github.com/fluxcd/source-controller", "github.com/fluxcd/kustomize-controller")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """A failed fetch is in the controller's log."""


@dataclass(frozen=True, slots=True)
class Flux:
    """A running kustomize-controller and the repository that it reads."""

    plane: ControlPlane
    folder: Path  # what is served
    url: str
    repository: str

    def commit(self, files: Mapping[str, str]) -> str:
        """Make these the repository's whole content; give the revision, as Flux will name it."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as tar:
            for path, text in files.items():
                entry = tarfile.TarInfo(path)
                entry.size = len(text.encode())
                tar.addfile(entry, io.BytesIO(text.encode()))
        archive = made.getvalue()
        digest = hashlib.sha256(archive).hexdigest()
        name, revision = f"{digest}.tar.gz", f"main@sha1:{digest[:40]}"
        (self.folder / name).write_bytes(archive)
        artifact = {
            "path": name,
            "url": f"{self.url}/{name}",
            "revision": revision,
            "digest": f"sha256:{digest}",
            "size": len(archive),
            "lastUpdateTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        patch = json.dumps({"status": {"artifact": artifact}})
        self._kubectl("patch", f"gitrepository/{self.repository}", "--subresource=status", "--type=merge", "-p", patch)
        return revision

    def ready(self, kustomization: str) -> dict[str, Any]:
        """Its condition Ready, with `revision`: the last that was applied and found healthy. Empty before there is one."""
        found = json.loads(self._kubectl("get", f"kustomization/{kustomization}", "-o", "json"))
        status = found.get("status", {})
        said = [one for one in status.get("conditions", ()) if one["type"] == "Ready"]
        return said[0] | {"revision": status.get("lastAppliedRevision")} if said else {}

    def reconcile(self, kustomization: str) -> str:
        """Ask for another pass, as `flux reconcile` does; give the token under which it will say that it is done."""
        token = datetime.now(UTC).isoformat()
        self._kubectl(
            "annotate", "--overwrite", f"kustomization/{kustomization}", f"reconcile.fluxcd.io/requestedAt={token}"
        )
        return token

    def reconciled(self, kustomization: str) -> str:
        """The token of the last pass that was asked for and is done."""
        return self._kubectl("get", f"kustomization/{kustomization}", "-o", "jsonpath={.status.lastHandledReconcileAt}")

    def _kubectl(self, *arguments: str) -> str:
        return self.plane.kubectl(*arguments, "--namespace", NAMESPACE)


@contextlib.contextmanager
def flux(plane: ControlPlane, folder: Path, repository: str) -> Iterator[Flux]:
    """Lend a controller with one GitRepository of this name in `flux-system`; it goes with the block."""
    program = binary("kustomize-controller")
    apply_crds(plane, *(sources("flux", module) / "config" / "crd" / "bases" for module in CRDS))
    plane.kubectl("create", "namespace", NAMESPACE)
    spec = {"url": "https://git.example.com/platform/fleet", "interval": "1h"}
    head = {"name": repository, "namespace": NAMESPACE}
    source = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": head, "spec": spec}
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(source))
    metrics, health = free_ports(2)
    command = (
        *("env", f"KUBECONFIG={plane.kubeconfig}", f"RUNTIME_NAMESPACE={NAMESPACE}", str(program)),
        "--log-encoding=console",
        *(f"--metrics-addr=127.0.0.1:{metrics}", f"--health-addr=127.0.0.1:{health}", "--requeue-dependency=1s"),
    )
    controller = Component(
        *("kustomize-controller", command, plane.folder / "pids", plane.logs / "kustomize-controller.log"),
        ready_url=f"http://127.0.0.1:{health}/readyz",
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        controller.start()
        try:
            controller.wait_ready()
            yield Flux(plane, folder, f"http://127.0.0.1:{server.server_port}", repository)
        finally:
            controller.kill()
            server.shutdown()
