"""The config-manager sidecar: picks the configuration that the node's label names, and signals its neighbour.

    label value --(differs from the last)--> key of the projected ConfigMap --> symlink --(differs)--> SIGHUP

It acts on changes of the label alone, so content edited under the key in use is never loaded. Whatever goes wrong
ends the process with an error, and its container is restarted. Upstream: `cmd/config-manager/main.go` of v0.20.0.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Self

from .node import ApiNode, changes

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
    forgetful: bool = False  # STANDIN_FORGETFUL: 0.18.2 to 0.20.0, see `run`

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read NVIDIA's variables."""
        return cls(
            available=Path(env["CONFIG_FILE_SRCDIR"]),
            chosen=Path(env["CONFIG_FILE_DST"]),
            default=env.get("DEFAULT_CONFIG", ""),
            fallbacks=tuple(filter(None, env.get("FALLBACK_STRATEGIES", "").split(","))),
            label=env.get("NODE_LABEL", LABEL),
            oneshot=env.get("ONESHOT") == "true",
            neighbour=env["PROCESS_TO_SIGNAL"] if env.get("SEND_SIGNAL") == "true" else None,
            forgetful=env.get("STANDIN_FORGETFUL") == "true",
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


def find_process(name: str, command_lines: Mapping[int, Sequence[str]]) -> int:
    """The pid of the process that runs this command. Raises ConfigManagerError.

    NVIDIA's commands are binaries, so their name is argv[0]; ours are scripts, so it comes after the interpreter.
    """
    for pid, words in sorted(command_lines.items()):
        commands = [Path(word).name for word in words[:2]]
        if commands and (commands[0] == name or (commands[0].startswith("python") and commands[1:] == [name])):
            return pid
    raise ConfigManagerError("error finding pid: no process found")


def run(options: Options, labels: Iterable[str], hang_up: Callable[[str], None]) -> None:
    """Obey each label value in turn; `hang_up` signals the named neighbour. Raises ConfigManagerError.

    A forgetful one does not wait for the node before its first answer, so that is the one for a node without the label.
    """
    for label in changes(chain([""], labels) if options.forgetful else labels):
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


def command_lines() -> dict[int, list[str]]:
    """The command line of every process in this pid namespace (the pod's, when it is shared)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found[int(folder.name)] = (folder / "cmdline").read_text(errors="replace").split("\0")
            except OSError:  # ended meanwhile
                continue
    return found


def main() -> None:
    """Run the sidecar, or the init container, on this node."""
    options = Options.from_env(os.environ)
    labels = ((metadata.get("labels") or {}).get(options.label, "") for metadata in ApiNode.from_env().watch())
    run(options, labels, lambda name: os.kill(find_process(name, command_lines()), signal.SIGHUP))
