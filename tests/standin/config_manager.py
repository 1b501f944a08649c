"""The config-manager sidecar: picks the configuration that the node's label names, and signals its neighbour.

    label value --(differs from the last)--> key of the projected ConfigMap --> symlink --(differs)--> SIGHUP

It acts on changes of the label alone, so content edited under the key in use is never loaded. Whatever goes wrong
ends the process with an error, and its container is restarted. NB: by then the link is changed, so that what comes after a signal
that found nobody is `already configured`. Upstream: `cmd/config-manager/main.go` of v0.20.0.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

from .node import ApiNode, changes
from .releases import SOUND, Version, does, version_from
from .settings import place

LABEL = "nvidia.com/device-plugin.config"

log = logging.getLogger(__name__)


class ConfigManagerError(Exception):
    """The sidecar logs this and exits."""


@dataclass(frozen=True, slots=True)
class Options:
    """The sidecar's environment, under NVIDIA's names."""

    available: Path  # CONFIG_FILE_SRCDIR: the projected ConfigMap
    chosen: Path  # CONFIG_FILE_DST: the symlink that the neighbour reads
    default: str = ""  # DEFAULT_CONFIG
    fallbacks: tuple[str, ...] = ("named", "single")  # FALLBACK_STRATEGIES
    label: str = LABEL  # NODE_LABEL
    oneshot: bool = False  # ONESHOT: choose once and exit, as the init container does
    neighbour: str | None = None  # PROCESS_TO_SIGNAL, None where SEND_SIGNAL is false
    version: Version = SOUND.version  # STANDIN_VERSION: BEHAVIOURS has what differs

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read NVIDIA's variables."""
        return cls(
            available=place(env["CONFIG_FILE_SRCDIR"]),
            chosen=place(env["CONFIG_FILE_DST"]),
            default=env.get("DEFAULT_CONFIG", ""),
            fallbacks=tuple(filter(None, env.get("FALLBACK_STRATEGIES", "").split(","))),
            label=env.get("NODE_LABEL", LABEL),
            oneshot=env.get("ONESHOT") == "true",
            neighbour=env["PROCESS_TO_SIGNAL"] if env.get("SEND_SIGNAL") == "true" else None,
            version=version_from(env),
        )


def select(label: str, available: Sequence[str], default: str, fallbacks: Sequence[str]) -> str:
    """The key to use, "" for the empty configuration. Raises ConfigManagerError."""
    if not available:
        raise ConfigManagerError("no configuration files available")
    if label or default:
        if (label or default) not in available:
            raise ConfigManagerError(f"specified config {label} does not exist")
        return label or default
    for fallback in fallbacks:
        match fallback:
            case "named" if "default" in available:
                return "default"
            case "single" if len(available) == 1:
                return available[0]
            case "empty":
                return ""
            case "named" | "single":
                continue
            case _:
                raise ConfigManagerError(f"unknown fallback strategy: {fallback}")
    raise ConfigManagerError("no config was set, no default was provided, and all fallbacks failed")


def find_process(name: str, processes: Iterable[tuple[int, Sequence[str]]], version: Version) -> int:
    """The pid of the first process whose command line begins with this word, the whole of it. Raises ConfigManagerError."""
    for pid, words in processes:
        if not words and does("panics", version):
            raise ConfigManagerError("panic: runtime error: index out of range [0] with length 0")
        if words and words[0] == name:
            return pid
    raise ConfigManagerError("error finding pid: no process found")


def run(options: Options, labels: Iterable[str], hang_up: Callable[[str], None]) -> None:
    """Obey each label value in turn; `hang_up` signals the named neighbour. Raises ConfigManagerError.

    A forgetful one does not wait for the node before its first answer, so that is the one for a node without the label.
    """
    for label in changes(chain([""], labels) if does("forgetful", options.version) else labels):
        log.info("Label change detected: %s=%s", options.label, label)
        # Of a projected ConfigMap the entries that begin with ".." are the kubelet's own.
        available = sorted(
            entry.name for entry in options.available.iterdir() if not entry.name.startswith("..") and entry.is_file()
        )
        key = select(label, available, options.default, options.fallbacks)
        log.info("Updating to config: %s", key or "(empty)")
        if not _point(options.chosen, options.available / key if key else Path(os.devnull)):
            log.info("Already configured. Skipping update...")
        elif options.neighbour:
            log.info("Sending signal 'hangup' to '%s'", options.neighbour)
            hang_up(options.neighbour)
        if options.oneshot:
            return


def _point(link: Path, target: Path) -> bool:
    """Make the symlink, unless it leads there already."""
    # NB: a link to a key that has been deleted "does not exist", so it is not removed, and making it anew fails.
    # That is how the sidecar crash-loops when a key in use is deleted.
    if link.is_file() or link.is_char_device():
        if link.resolve() == target.resolve():
            return False
        link.unlink()
    try:
        link.symlink_to(target)
    except FileExistsError as error:
        raise ConfigManagerError(f"error creating symlink: {error}") from error
    return True


def processes(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Every process of this pid namespace by its pid, and its command line. Raises ConfigManagerError.

    NB: with `hostPID`, as in the MPS daemon's pod, these are all of the node; else, with a shared namespace, all of the pod.
    """
    for pid in sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()):
        try:
            text = (folder / str(pid) / "cmdline").read_text(errors="replace")
        except OSError as error:  # NB: a process that ends meanwhile ends upstream's too
            raise ConfigManagerError(f"error finding pid: error getting cmdline: {error}") from error
        yield pid, text.rstrip("\0").split("\0") if text else []


def main() -> None:
    """Run the sidecar, or the init container, on this node."""
    options = Options.from_env(os.environ)
    labels = ((metadata.get("labels") or {}).get(options.label, "") for metadata in ApiNode.from_env().watch())

    def hang_up(name: str) -> None:
        os.kill(find_process(name, processes(place("/proc")), options.version), signal.SIGHUP)

    run(options, labels, hang_up)
