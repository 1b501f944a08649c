"""A GPU node with the stand-in on it, in one process: the daemons are threads, the API server is a dict."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.standin import config_manager, devices
from tests.standin.daemon import Daemon
from tests.standin.device_plugin import DevicePlugin, Setting
from tests.standin.feature_discovery import FeatureDiscovery
from tests.standin.mps_daemon import ControlDaemon
from tests.standin.nfd_master import ANNOTATION, patch
from tests.standin.node import follow_faults
from tests.standin.releases import SOUND, Version
from tests.standin.settings import FAULTS_ANNOTATION, Hardware
from tests.unit.standin.fake_kubelet import FakeKubelet, project

LABEL = config_manager.LABEL
RECORDED = Hardware()  # eight H100s
CONFIGS = {
    "plain": "version: v1\n",
    "ts4": """
version: v1
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources: [{name: nvidia.com/gpu, replicas: 4}]
""",
    "ts2": """
version: v1
sharing:
  timeSlicing:
    renameByDefault: true
    failRequestsGreaterThanOne: true
    resources: [{name: nvidia.com/gpu, replicas: 2}]
""",
    "mps2": """
version: v1
sharing:
  mps: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 2}]}
""",
}


class FakeNode:
    """The node's metadata, watched and labelled as through the API server; its NodeFeature as well."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {"labels": {}, "annotations": {}}
        self._version = 0
        self._changed = threading.Condition()

    def watch(self) -> Iterator[dict[str, Any]]:
        version = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=version: self._version != seen)
                version = self._version
                seen = {key: dict(value) for key, value in self.metadata.items()}
            if version is None:
                return
            yield seen

    def _update(self, change: Callable[[], None], *, last: bool = False) -> None:
        with self._changed:
            change()
            self._version = None if last else self._version + 1
            self._changed.notify_all()

    def label(self, labels: Mapping[str, str | None]) -> None:
        def change() -> None:
            merged = self.metadata["labels"] | labels
            self.metadata["labels"] = {key: value for key, value in merged.items() if value is not None}

        self._update(change)

    def publish(self, labels: Mapping[str, str]) -> None:
        """What node-feature-discovery makes of it, at once."""
        with self._changed:
            asked = patch(labels, self.metadata["annotations"].get(ANNOTATION, ""))["metadata"]
        self._update(lambda: self.metadata["annotations"].update(asked["annotations"]))
        self.label(asked["labels"])

    def fault(self, text: str) -> None:
        self._update(lambda: self.metadata["annotations"].update({FAULTS_ANNOTATION: text}))

    def close(self) -> None:
        self._update(lambda: None, last=True)

    def wait_for_labels(self, labels: Mapping[str, str], timeout_s: float = 60) -> None:
        with self._changed:
            seen = self._changed.wait_for(lambda: labels.items() <= self.metadata["labels"].items(), timeout_s)
            assert seen, f"labels are {self.metadata['labels']}, not {labels}"


class Part(threading.Thread):
    """A container: runs until it ends, and keeps the error it ended with."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.error: Exception | None = None
        self._work = work
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:  # noqa: BLE001 - what a container's exit would tell
            self.error = error

    def exit_error(self, timeout_s: float = 60) -> str | None:
        """What it ended with; waits for its end."""
        self.join(timeout_s)
        assert not self.is_alive(), f"{self.name} still runs"
        return str(self.error) if self.error else None


class Log(logging.Handler):
    """What the daemons log, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self._lines.append((time.monotonic(), record.getMessage()))
            self._changed.notify_all()

    def wait_for(self, text: str, timeout_s: float = 60, *, times: int = 1) -> float:
        """When it was said, for the first time or so many times, in seconds of the monotonic clock."""
        with self._changed:
            said = self._changed.wait_for(
                lambda: [at for at, line in self._lines if text in line][times - 1 :], timeout_s
            )
            assert said, f"{text!r} not in the log: {self._lines}"
            return said[0]


class Machine:
    """Kubelet, node object and the four daemons. `close` it."""

    def __init__(
        self,
        folder: Path,
        hardware: Hardware = RECORDED,
        *,
        env: Mapping[str, str] = {"MPS_ROOT": "/run/nvidia/mps"},
        version: Version = SOUND.version,
        retry_s: float = 0.05,  # 30 in a cluster
    ) -> None:
        self.hardware = hardware
        self.gpus = hardware.gpus("node")
        self.plugins, self.available, self.mps = folder / "plugins", folder / "configs", folder / "mps"
        for path in (self.plugins, self.available, self.mps):
            path.mkdir()
        self.node = FakeNode()
        self.kubelet = FakeKubelet(self.plugins)
        self._config_file = folder / "config.yaml"
        self._setting = Setting(self.plugins, self._config_file, self.mps, env, version, retry_s)
        self._daemons: dict[str, Daemon] = {}
        self._parts: list[Part] = []
        self._generation = 0
        self.log = Log()
        logging.getLogger("tests.standin").setLevel(logging.INFO)
        logging.getLogger("tests.standin").addHandler(self.log)
        self.project(CONFIGS)

    def project(self, configs: Mapping[str, str]) -> None:
        """Project a ConfigMap."""
        self._generation += 1
        project(self.available, configs, self._generation)

    def start_plugin(self) -> Part:
        return self._start(
            "nvidia-device-plugin",
            Daemon(DevicePlugin(self.gpus, self._setting), watched=self._setting.kubelet, poll_s=0.02),
        )

    def start_feature_discovery(self) -> Part:
        service = FeatureDiscovery(
            self.node, self.hardware, self._config_file, interval_s=60, now_s=lambda: 1_700_000_000
        )
        return self._start("gpu-feature-discovery", Daemon(service, poll_s=0.02))

    def start_mps_daemon(self, config_file: Path | None = None) -> Part:
        """With the plugin's configuration, or with that of a pod of its own."""
        service = ControlDaemon(self.gpus, self.hardware.compute_capability, config_file or self._config_file, self.mps)
        return self._start("mps-control-daemon", Daemon(service, poll_s=0.02))

    def _start(self, name: str, daemon: Daemon) -> Part:
        faults = follow_faults(self.node, daemon.set_faults)
        self._daemons[name] = daemon

        def work() -> None:
            try:
                daemon.run(faults)
            finally:
                self._daemons.pop(name, None)

        return self._runs(Part(name, work))

    def _runs(self, part: Part) -> Part:
        self._parts.append(part)
        return part

    def stop(self, part: Part) -> None:
        """An orderly stop."""
        self.end(part)
        part.join(60)

    def end(self, part: Part) -> None:
        """SIGTERM."""
        if daemon := self._daemons.get(part.name):
            daemon.stop()

    def config_manager(
        self,
        *,
        oneshot: bool = False,
        default: str = "plain",
        neighbour: str = "nvidia-device-plugin",
        version: Version = SOUND.version,
        config_file: Path | None = None,
    ) -> Part:
        options = config_manager.Options(
            self.available,
            config_file or self._config_file,
            default=default,
            oneshot=oneshot,
            neighbour=None if oneshot else neighbour,
            version=version,
        )
        labels = (metadata["labels"].get(LABEL, "") for metadata in self.node.watch())

        def hang_up(name: str) -> None:
            running = enumerate([name] for name in self._daemons)
            config_manager.find_process(name, running, version)
            self._daemons[name].reload()

        return self._runs(Part("config-manager", lambda: config_manager.run(options, labels, hang_up)))

    def boot(self, label: str = "plain") -> Part:
        """Start the plugin's pod: init container, sidecar, plugin. Returns the plugin."""
        self.node.label({LABEL: label})
        assert self.config_manager(oneshot=True).exit_error() is None
        plugin = self.start_plugin()
        self.sidecar = self.config_manager()
        return plugin

    def pipe(self) -> Path:
        return Path(devices.pipe_folder(str(self.mps), "nvidia.com/gpu.shared"))

    def close(self) -> None:
        """End every part, and wait for it: what goes on after its test logs into nowhere."""
        self.node.close()
        for daemon in list(self._daemons.values()):
            daemon.stop()
        for part in self._parts:
            part.join(60)
        self.kubelet.stop()
        logging.getLogger("tests.standin").removeHandler(self.log)
