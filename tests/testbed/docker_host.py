"""What a private dockerd leaves on a machine, and how each piece is taken back.

dockerd assumes that it stays for ever: it leaves bridges, chains, mounts, control groups and
changed kernel settings behind. A test bed may leave nothing. `Baseline.record` writes down how
the machine was; `Baseline.restore` takes back what has come since. Both work from what the
kernel says now, never from what we remember having done, so that a killed run is cleaned by the
next one.

It must never touch a rule, interface or process that was there before or that is not Docker's.
"""

import contextlib
import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

BRIDGE = re.compile(r"docker0|br-[0-9a-f]{12}")
# What dockerd sets for its networks, and what a kubelet in a privileged container sets for the whole kernel.
SYSCTLS = tuple(
    Path("/proc/sys") / name
    for name in (
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/ipv6/conf/default/forwarding",
        "net/bridge/bridge-nf-call-iptables",
        "net/bridge/bridge-nf-call-ip6tables",
        "net/netfilter/nf_conntrack_max",
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
    )
)
# dockerd and containerd make these outside the folders they are given.
STRAY_FOLDERS = tuple(
    Path(name) for name in ("/etc/docker", "/run/docker", "/run/containerd", "/var/lib/docker", "/opt/containerd")
)
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: int  # clock ticks since boot, field 22 of /proc/PID/stat
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Identify a running process; ProcessLookupError where there is none."""
        return cls(pid, _started(pid), _boot())

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what `write` wrote; None where it is absent or torn by a kill."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Record the process for the run that may have to clean up after it."""
        path.write_text(json.dumps(asdict(self)))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        try:
            return self.boot == _boot() and self.started == _started(self.pid)
        except ProcessLookupError:
            return False

    def stop(self, grace_s: float) -> None:
        """Ask it to end, wait, and kill it after `grace_s` seconds."""
        for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 60.0)):
            if not self.alive:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            deadline = time.monotonic() + wait_s
            while self.alive and time.monotonic() < deadline:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(self.pid, os.WNOHANG)
                time.sleep(0.05)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return int(fields[19])


def running_under(folder: Path) -> list[Process]:
    """Find the processes whose command line names something in `folder` (containerd and its shims)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{folder}/" in (entry / "cmdline").read_text(errors="replace"):
                    found.append(Process.of(int(entry.name)))
    return found


def kill_cgroup(name: str) -> None:
    """Kill everything in the control group `name`, in every hierarchy, and remove the group."""
    roots = [root for root in (CGROUPS / name, *CGROUPS.glob(f"*/{name}")) if root.is_dir()]
    for _attempt in range(100):
        pids = {int(pid) for root in roots for file in root.rglob("cgroup.procs") for pid in _words(file)}
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for root in roots:
        for folder in sorted(root.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            _rmdir(folder)
        _rmdir(root)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _rmdir(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def mounts_under(folder: Path) -> list[str]:
    """List the mount points at or below `folder`, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    decoded = [re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point) for point in points]
    inside = [point for point in decoded if point == str(folder) or point.startswith(f"{folder}/")]
    return sorted(inside, key=len, reverse=True)


def unmount_under(folder: Path) -> None:
    """Lazily unmount all that is mounted at or below `folder`, so that it can be removed."""
    for point in mounts_under(folder):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The machine before dockerd: what must be so again when it has gone."""

    sysctls: dict[str, str]
    rules: dict[str, list[str]]  # per iptables command, the lines of its -save, without counters
    interfaces: list[str]
    folders: list[str]  # those of STRAY_FOLDERS that were there

    @classmethod
    def record(cls) -> Self:
        """Write down the machine as it is."""
        return cls(
            sysctls={str(path): path.read_text().strip() for path in SYSCTLS if path.exists()},
            rules={command: saved_rules(command) for command in ("iptables", "ip6tables")},
            interfaces=interfaces(),
            folders=[str(path) for path in STRAY_FOLDERS if path.exists()],
        )

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what `write` wrote; None where there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Record it for the run that cleans up, which may be another one."""
        path.write_text(json.dumps(asdict(self)))

    def restore(self) -> None:
        """Take back Docker's rules, bridges, settings and stray folders; dockerd must have ended."""
        bridges = [name for name in interfaces() if BRIDGE.fullmatch(name) and name not in self.interfaces]
        subnets = [subnet for bridge in bridges for subnet in _subnets(bridge)]
        for command, before in self.rules.items():
            _remove_rules(command, before, bridges, subnets)
        for bridge in bridges:
            subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
        for name, value in self.sysctls.items():
            with contextlib.suppress(OSError):
                Path(name).write_text(value)
        for folder in STRAY_FOLDERS:
            if str(folder) not in self.folders:
                unmount_under(folder)
                shutil.rmtree(folder, ignore_errors=True)


def interfaces() -> list[str]:
    """List the names of the network interfaces."""
    return sorted(name for _index, name in socket.if_nameindex())


def _subnets(interface: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    shown = subprocess.run(["ip", "-json", "address", "show", interface], check=False, capture_output=True)
    addresses = json.loads(shown.stdout or b"[]")
    return [
        ipaddress.ip_network(f"{info['local']}/{info['prefixlen']}", strict=False)
        for entry in addresses
        for info in entry.get("addr_info", ())
    ]


def saved_rules(command: str) -> list[str]:
    """Give `command`-save's tables, policies, chains and rules, without counters and comments."""
    saved = subprocess.run([f"{command}-save"], check=False, capture_output=True, text=True).stdout
    kept = [line for line in saved.splitlines() if line and not line.startswith(("#", "COMMIT"))]
    return [re.sub(r" \[\d+:\d+\]$", "", line) for line in kept]


def _remove_rules(
    command: str, before: list[str], bridges: list[str], subnets: list[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> None:
    """Delete Docker's rules and chains that were not there before, and give the chains their old policy."""

    def run(*arguments: str) -> None:
        subprocess.run([command, "--wait", *arguments], check=False, capture_output=True)

    table, chains = "filter", []
    before_by_table = set(_with_table(before))
    for table, line in _with_table(saved_rules(command)):
        if (table, line) in before_by_table:
            continue
        if line.startswith("-A "):
            words = shlex.split(line)
            if _is_dockers(words, bridges, subnets):
                run("-t", table, "-D", *words[1:])
        elif line.startswith(":DOCKER"):
            chains.append((table, line[1:].split()[0]))
        elif (policy := re.fullmatch(r":(\S+) (?:ACCEPT|DROP)", line)) is not None:
            old = next((was for t, was in before_by_table if t == table and was.startswith(f":{policy[1]} ")), None)
            run("-t", table, "-P", policy[1], old.split()[1] if old else "ACCEPT")
    for step in ("-F", "-X"):
        for table, chain in chains:
            run("-t", table, step, chain)


def _with_table(lines: list[str]) -> list[tuple[str, str]]:
    paired, table = [], ""
    for line in lines:
        if line.startswith("*"):
            table = line[1:]
        else:
            paired.append((table, line))
    return paired


def _is_dockers(
    words: list[str], bridges: list[str], subnets: list[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> bool:
    if any(word.startswith("DOCKER") or word in bridges for word in words):
        return True
    for word in words:
        with contextlib.suppress(ValueError):
            network = ipaddress.ip_network(word, strict=False)
            if any(network.version == own.version and network.subnet_of(own) for own in subnets):  # type: ignore[arg-type]
                return True
    return False
