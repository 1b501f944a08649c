"""GPU feature discovery: writes the labels of `labels.py` to the node.

Plays node-feature-discovery too, which at NVIDIA's stands between and does the writing. Labels are written at the
start, on SIGHUP, and when somebody changed them, looked at every `interval_s`.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from . import config
from .daemon import Daemon
from .labels import feature_labels
from .node import ApiNode, Node, follow_faults
from .settings import Faults, Hardware

INTERVAL_S = 60.0
RETRY_S = 2.0

log = logging.getLogger(__name__)


class FeatureDiscovery:
    """The service behind the daemon `gpu-feature-discovery`."""

    def __init__(
        self,
        node: Node,
        hardware: Hardware,
        config_file: Path,
        *,
        interval_s: float,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._node = node
        self._hardware = hardware
        self._config_file = config_file
        self._interval_s = interval_s
        self._now_s = now_s

    def start(self) -> float:
        """Write the labels. Raises ConfigError, which ends the process."""
        text = self._config_file.read_text() if self._config_file.exists() else ""
        labels = feature_labels(config.parse(text), self._hardware, timestamp_s=int(self._now_s()))
        try:
            self._node.label(labels)
        except OSError as error:
            log.warning("labels not written: %s; again in %s s", error, RETRY_S)
            return RETRY_S
        log.info("Updated labels: %s", labels)
        return self._interval_s

    def stop(self) -> None:
        """Labels stay, as NVIDIA's do."""

    def take(self, faults: Faults) -> None:
        """No fault concerns labels once written; late and stuck are the daemon's."""


def main() -> None:
    """Run feature discovery on this node, as the container's process."""
    node = ApiNode.from_env()
    env = os.environ
    service = FeatureDiscovery(
        node,
        Hardware.from_env(env),
        Path(env.get("CONFIG_FILE", "/config/config.yaml")),
        interval_s=float(env.get("GFD_SLEEP_INTERVAL_S", INTERVAL_S)),
    )
    daemon = Daemon(service)
    daemon.obey_signals()
    daemon.run(follow_faults(node, daemon.set_faults))
