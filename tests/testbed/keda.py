"""KEDA on a cluster: its operator and metrics server, built from its own module, installed by its own manifests.

    with scraping(stage), keda(stage):
        apply a ScaledObject, see it scale, delete it

Takes ten minutes to build when cold. Assumes that nobody else serves external.metrics.k8s.io. A ScaledObject must be
gone before KEDA is: its finalizer is KEDA's to take off.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .gotools import binary, sources
from .metrics_pipeline import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .stage import Stage

MODULE = "github.com/kedacore/keda/v2"
IMAGE = "slm-operator/keda:test"
NAMESPACE = "keda"
DEPLOYMENTS = ("keda-operator", "keda-metrics-apiserver")
API = "apiservice/v1beta1.external.metrics.k8s.io"


@contextlib.contextmanager
def keda(stage: Stage) -> Iterator[None]:
    """KEDA, ready to scale; afterwards it is gone."""
    _provide_image(stage)
    kubectl, said = stage.cluster.kubectl, yaml.safe_dump_all(_manifests())
    try:
        kubectl("apply", "--server-side", "--filename", "-", stdin=said)
        for name in DEPLOYMENTS:
            available = ("--for=condition=Available", "--timeout=400s")
            kubectl("wait", f"deployment/{name}", "--namespace", NAMESPACE, *available, timeout_s=430)
        kubectl("wait", API, "--for=condition=Available", "--timeout=240s")
        yield
    finally:
        # NB: an API without a server is a stale one to everybody who discovers APIs: it goes first.
        kubectl("delete", API, "--ignore-not-found")
        kubectl("delete", "--ignore-not-found", "--wait=false", "--filename", "-", stdin=said)


def _manifests() -> list[dict[str, Any]]:
    """What `config/minimal` of its sources renders to, with the image that was made here."""
    folder = sources("keda", MODULE) / "config" / "minimal"
    done = subprocess.run([binary("kubectl"), "kustomize", folder], capture_output=True, text=True, check=True)
    manifests = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            container |= {"image": IMAGE, "imagePullPolicy": "Never"}
    return manifests


def _provide_image(stage: Stage) -> None:
    with tempfile.TemporaryDirectory(prefix="slm-keda-") as context:
        for program in ("keda-operator", "keda-adapter"):
            shutil.copy2(binary(program), context)
        dockerfile = Path(shutil.copy2(FOLDER / "keda.Dockerfile", context))
        stage.cluster.build(dockerfile, Path(context), IMAGE)
    stage.cluster.load_image(IMAGE)
