"""GPU feature discovery: writes the labels of `labels.py` into the NodeFeature object of its node.

It does so at the start, on SIGHUP, and when somebody changed them, looked at every `interval_s`. The object belongs to its pod and to
its DaemonSet, so that it outlives the one and goes with the other. Node-feature-discovery's master labels the node.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import config
from .api import APPLY, Api
from .daemon import Daemon
from .labels import feature_labels
from .nfd_master import NODE_NAME_LABEL
from .node import ApiNode, follow_faults
from .settings import Faults, Hardware, place

INTERVAL_S = 60.0
RETRY_S = 2.0

log = logging.getLogger(__name__)


class Features(Protocol):
    """Where the labels of this node are put."""

    def publish(self, labels: Mapping[str, str]) -> None:
        """Say that the node has these labels and no others of ours. Raises OSError when nobody takes it."""
        ...


@dataclass(frozen=True, slots=True)
class NodeFeature:
    """The NodeFeature object of a node."""

    api: Api
    node: str
    namespace: str
    pod: str

    def publish(self, labels: Mapping[str, str]) -> None:
        """See `Features`."""
        path = (
            f"/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/{self.namespace}/nodefeatures/nvidia-features-for-{self.node}"
        )
        head = {
            "name": f"nvidia-features-for-{self.node}",
            "namespace": self.namespace,
            "labels": {NODE_NAME_LABEL: self.node},
            "ownerReferences": self._owners(),
        }
        body = {"apiVersion": "nfd.k8s-sigs.io/v1alpha1", "kind": "NodeFeature", "metadata": head}
        spec = {"features": {}, "labels": dict(labels)}
        self.api.write("PATCH", f"{path}?fieldManager=gpu-feature-discovery&force=true", body | {"spec": spec}, APPLY)

    def _owners(self) -> list[dict[str, Any]]:
        pod = self.api.get(f"/api/v1/namespaces/{self.namespace}/pods/{self.pod}")["metadata"]
        itself = {"apiVersion": "v1", "kind": "Pod", "name": self.pod, "uid": pod["uid"]}
        above = [
            {name: one[name] for name in ("apiVersion", "kind", "name", "uid")}
            for one in pod.get("ownerReferences") or ()
        ]
        return [itself, *above]


class FeatureDiscovery:
    """The service behind the daemon `gpu-feature-discovery`."""

    def __init__(
        self,
        features: Features,
        hardware: Hardware,
        config_file: Path,
        *,
        interval_s: float,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._features = features
        self._hardware = hardware
        self._config_file = config_file
        self._interval_s = interval_s
        self._now_s = now_s

    def start(self) -> float:
        """Write the labels. Raises ConfigError, which ends the process."""
        text = self._config_file.read_text() if self._config_file.exists() else ""
        labels = feature_labels(config.parse(text), self._hardware, timestamp_s=int(self._now_s()))
        try:
            self._features.publish(labels)
        except OSError as error:
            log.warning("labels not written: %s; again in %s s", error, RETRY_S)
            return RETRY_S
        log.info("Updated labels: %s", labels)
        return self._interval_s

    def stop(self) -> None:
        """Labels stay, as NVIDIA's do while the DaemonSet does."""

    def take(self, faults: Faults) -> None:
        """No fault concerns labels once written; late and stuck are the daemon's."""


def main() -> None:
    """Run feature discovery on this node, as the container's process."""
    node = ApiNode.from_env()
    env = os.environ
    service = FeatureDiscovery(
        NodeFeature(node.api, node.name, env["NAMESPACE"], env["POD_NAME"]),
        Hardware.from_env(env),
        place(env.get("CONFIG_FILE", "/config/config.yaml")),
        interval_s=float(env.get("GFD_SLEEP_INTERVAL_S", INTERVAL_S)),
    )
    daemon = Daemon(service)
    daemon.obey_signals()
    daemon.run(follow_faults(node, daemon.set_faults))
