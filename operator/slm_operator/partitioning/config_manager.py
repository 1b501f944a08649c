"""How NVIDIA's config-manager notifies the daemon beside it, and the releases in which an MPS daemon never hears of a label.

It points a link at the configuration that the node's label names, and signals the daemon. Two faults meet: from 0.18.2 on
its first answer, before it has seen the node, is the configuration of a node without a label; and a signal that finds no
process ends it, so that it begins anew. Source: docs/concepts/gpu-sharing.md, 24. Read from the specs of pods, so that it is known before a
node is drained for nothing. Must never ask a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from slm_operator.partitioning.node_slices import CONFIG_MANAGERS, DEVICE_PLUGIN, MPS_DAEMON, PARTS
from slm_operator.version import Version, dotted, version_of_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORGETFUL_SINCE: Version = (0, 18, 2)
FORGETFUL_UNTIL: Version = (0, 20, 0)
"""Releases that take the label for unset at each start. NB: what comes later is trusted until it is seen."""
LAST_GOOD: Version = (0, 18, 1)
MOST_WORD = 128
"""Longest name of a process that is taken, in characters: it is anybody's text, and stands in messages."""
_TARGET = "PROCESS_TO_SIGNAL"
_USUAL_TARGET = "nvidia-device-plugin"
"""What it signals where nothing is said."""
_SHELLS = frozenset({"sh", "bash"})


class Fault(NamedTuple):
    """Why the MPS daemons of a cluster do not hold the configuration of a node's label."""

    because: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.because}: {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigManager:
    """A config-manager and the daemon beside it. One object for all pods that are alike: a fleet has thousands."""

    version: Version | None = None
    """Of its image; None: the image's tag tells none."""
    signals: str | None = None
    """The process that it signals; None: it signals nobody."""
    daemon: str | None = None
    """What the daemon runs as, the first word of its command; None: the pod does not say."""
    daemon_first: bool = False
    """Whether the daemon's container is started first, as in the GPU Operator."""

    @property
    def reaches_daemon(self) -> bool:
        """Whether its signal finds the daemon. NB: it compares the whole of the first word, folder and all."""
        return self.signals is not None and self.daemon in {None, self.signals}

    @property
    def is_forgetful(self) -> bool:
        """Whether its first answer at each start is that of a node without a label."""
        return self.version is not None and FORGETFUL_SINCE <= self.version <= FORGETFUL_UNTIL

    @property
    def restarts_daemon(self) -> bool:
        """Whether the daemon starts again whenever it does: by two signals, for the wrong answer and for the right one."""
        return self.reaches_daemon and not (self.version is not None and self.version < FORGETFUL_SINCE)

    @property
    def lost_signal(self) -> str | None:
        """What becomes of its signal, where that does not reach the daemon."""
        if self.reaches_daemon:
            return None
        if self.signals is None:
            return "sends no signal"
        return f"signals {self.signals}, and the daemon runs as {self.daemon}"


def config_manager_in(containers: Sequence[Mapping[str, Any]]) -> ConfigManager | None:
    """The config-manager of a pod of NVIDIA's stack, or of its template; None where it has none.

    Its name differs by installation and by pod; whom it signals is set everywhere.
    """
    environments = [_environment(one) for one in containers]
    parts = [place for place, one in enumerate(containers) if one.get("name") in PARTS]
    managers = [
        place
        for place, one in enumerate(containers)
        if place not in parts and (one.get("name") in CONFIG_MANAGERS or _TARGET in environments[place])
    ]
    if not parts or not managers:
        return None
    environment, command = environments[managers[0]], containers[parts[0]].get("command") or [""]
    daemon = str(command[0])[:MOST_WORD]
    silent = environment.get("SEND_SIGNAL", "").lower() in {"false", "f", "0"}
    return _alike(
        version=version_of_image(str(containers[managers[0]].get("image") or "")),
        signals=None if silent else environment.get(_TARGET, _USUAL_TARGET)[:MOST_WORD] or None,
        daemon=daemon if daemon and PurePosixPath(daemon).name not in _SHELLS else None,
        daemon_first=parts[0] < managers[0],
    )


@lru_cache(maxsize=256)  # asked for every node
def fault_of(manager: ConfigManager | None) -> Fault | None:
    """Why the MPS daemon beside it does not hold the configuration of a label; None where it does, or nobody can say."""
    if manager is None or not manager.is_forgetful or manager.version is None or manager.reaches_daemon:
        return None
    named, older = dotted(manager.version), f"the device plugin {dotted(LAST_GOOD)} or older"
    loads = "loads the default configuration" if manager.daemon_first else "loads the right configuration by chance"
    because = f"the {MPS_DAEMON.title}'s config-manager {named} {manager.lost_signal}, so it {loads} and never hears of another"
    target = manager.daemon or "the first word of the daemon's command"
    corrected = f"set {_TARGET} of its config-manager to {target}"
    if manager.daemon_first:  # NB: the GPU Operator sets it, and takes back what others edit
        return Fault(because, f"run {older} (devicePlugin.version in the ClusterPolicy); or {corrected}")
    return Fault(because, f"{corrected} with a post-renderer of NVIDIA's chart; or run {older}")


def doubt_of(manager: ConfigManager | None) -> str | None:
    """What may be wrong where its release is not known, as the rest of a sentence about it."""
    if manager is None or manager.version is not None or manager.lost_signal is None:
        return None
    return f"{manager.lost_signal}, which {dotted(FORGETFUL_SINCE)} to {dotted(FORGETFUL_UNTIL)} do not bear, and its image names no release"


def fault_among(managers: Iterable[ConfigManager | None]) -> Fault | None:
    """The fault of the MPS daemons that are seen, the first one's; None where one of them has none, or none is seen.

    NB: they are one DaemonSet's as a rule, so what one pod shows holds for nodes that have none yet.
    """
    faults = [fault_of(one) for one in managers]
    return faults[0] if faults and None not in faults else None


def against_mps(managers: Iterable[tuple[str, ConfigManager | None]]) -> str | None:
    """Why `Auto` takes no MPS in a cluster where these run, each with its part; None where it may.

    NB: an MPS daemon's pod comes only once a node's label asks for MPS. Before that the plugin's own release must do.
    """
    seen = list(managers)
    daemons = [one for part, one in seen if part == MPS_DAEMON.part]
    if daemons:
        fault = fault_among(daemons)
        return None if fault is None else f"NVIDIA's stack in this cluster ({fault.because}): {fault.remedy}"
    plugins = (one for part, one in seen if part == DEVICE_PLUGIN)
    forgetful = sorted(one.version for one in plugins if one is not None and one.is_forgetful and one.version)
    if not forgetful:
        return None
    return (
        f"the device plugin {dotted(forgetful[0])}: as NVIDIA releases {dotted(FORGETFUL_SINCE)} to {dotted(FORGETFUL_UNTIL)}, MPS "
        f"that a node's label chooses does not hold (kubectl slm check tells whether it does here; then ask for spec.sharing.mode: MPS)"
    )


def _environment(container: Mapping[str, Any]) -> dict[str, str]:
    return {str(one.get("name")): str(one.get("value") or "") for one in container.get("env") or ()}


@lru_cache(maxsize=256)  # bounded, because a pod's spec is anybody's
def _alike(version: Version | None, signals: str | None, daemon: str | None, daemon_first: bool) -> ConfigManager:  # noqa: FBT001
    return ConfigManager(version=version, signals=signals, daemon=daemon, daemon_first=daemon_first)
