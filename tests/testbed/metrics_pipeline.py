"""A metrics pipeline on a cluster, of real parts: Prometheus scrapes, prometheus-adapter serves custom.metrics.k8s.io.

    with scraping(stage) as prometheus:
        deploy engines
        with custom_metrics(stage, rules, "slm_demand_replicas"):
            a HorizontalPodAutoscaler of type Object finds its metric

Exists because an autoscaler is only as right as the metric that reaches it. Assumes that port 30090 of the node is free.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from .gotools import binary
from .prometheus import Prometheus, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .stage import Stage

FOLDER = Path(__file__).with_name("pipeline")
RULES = Path(__file__).parents[2] / "charts/slm-operator/rules/demand.yaml"
IMAGE = "slm-operator/metrics-pipeline:test"
NAMESPACE = "monitoring"
NODE_PORT = 30090
LISTS = """
token=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token)
until curl --silent --insecure --header "Authorization: Bearer $token" https://adapter/apis/custom.metrics.k8s.io/v1beta1 | grep slmdeployments.slm-operator.io/{metric}
do sleep 0.5; done
"""


NO_FILES: Mapping[str, str] = MappingProxyType({})


@contextlib.contextmanager
def scraping(stage: Stage, jobs: str = "", files: Mapping[str, str] = NO_FILES) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the operator and every engine and records demand each two seconds; afterwards it is gone.

    `jobs`: further scrape_configs, as YAML; `files` lie beside its configuration, in /etc/metrics.
    """
    _provide_image(stage)
    files = {name: (FOLDER / name).read_text() for name in ("prometheus.yml", "discover.sh")} | dict(files)
    files["prometheus.yml"] += jobs
    files[RULES.name] = RULES.read_text().replace("interval: 15s", "interval: 2s")
    with _applied(stage, _config("prometheus", files), *_manifests("scraping.yaml")):
        stage.cluster.kubectl(
            "wait", "pod/prometheus", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=240s"
        )
        yield Prometheus(f"http://{stage.cluster.node_ip}:{NODE_PORT}")


@contextlib.contextmanager
def custom_metrics(stage: Stage, rules: str, metric: str) -> Iterator[None]:
    """The custom metrics API, once it has this metric of SLMDeployments; `rules` are the adapter's. Afterwards it is gone.

    NB: an API without any resource is a stale one to everybody who discovers APIs. As long as it is, no namespace can
    be deleted and no autoscaler finds a metric, and the API server looks again only each minute: it comes last.
    """
    *parts, api = _manifests("adapter.yaml")
    with _applied(stage, _config("adapter", {"adapter.yml": rules}), *parts):
        kubectl = stage.cluster.kubectl
        kubectl("wait", "pod/adapter", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=240s")
        inside = ("exec", "--namespace", NAMESPACE, "prometheus", "--container", "discovery", "--", "bash", "-c")
        kubectl(*inside, LISTS.format(metric=metric))
        with _applied(stage, api):
            name = api["metadata"]["name"]
            kubectl("wait", f"apiservice/{name}", "--for=condition=Available", "--timeout=240s")
            yield


@contextlib.contextmanager
def _applied(stage: Stage, *manifests: dict[str, Any]) -> Iterator[None]:
    first = sorted(manifests, key=lambda manifest: manifest["kind"] != "Namespace")
    try:
        stage.apply(*first)
        yield
    finally:
        said = yaml.safe_dump_all(first)
        stage.cluster.kubectl("delete", "--ignore-not-found", "--wait=false", "--filename", "-", stdin=said)


def _manifests(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def _config(name: str, files: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": files}


def _provide_image(stage: Stage) -> None:
    with tempfile.TemporaryDirectory(prefix="slm-pipeline-") as context:
        for path in (FOLDER / "Dockerfile", program("prometheus"), binary("prometheus-adapter")):
            shutil.copy2(path, context)
        stage.cluster.build(Path(context, "Dockerfile"), Path(context), IMAGE)
    stage.cluster.load_image(IMAGE)
