"""A registry on loopback for one test: the real one (distribution), behind a wire that can be cut."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from tests.testbed.gotools import binary
from tests.testbed.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.testbed.kind import KindCluster

HTPASSWD = "release:$2b$04$64JeuS0SNttuIK1L1Ub.n..q3uizDF1LmUo1UAaHwQecMg4qIOsw.\n"
USER, PASSWORD = "release", "secret"


@dataclass
class Wire:
    """What lies between whoever pushes and the registry."""

    port: int
    sent: int = 0
    """Bytes towards the registry."""
    cut_at: int | None = None
    """How many of them pass before every connection breaks, and no new one holds."""

    def passes(self, count: int) -> bool:
        self.sent += count
        return self.cut_at is None or self.sent <= self.cut_at

    def reach_from(self, cluster: KindCluster) -> None:
        """Let a node find it as localhost too, by the same port: containerd speaks plainly with no other name."""
        port = str(self.port)
        gateway = cluster.exec("sh", "-c", "ip route show default | cut -d' ' -f3").strip()
        to = ("--protocol", "tcp", "--dport", port, "--jump")
        cluster.exec("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        there = ("--destination", "127.0.0.1", *to, "DNAT", "--to-destination", f"{gateway}:{port}")
        cluster.exec("iptables", "--table", "nat", "--append", "OUTPUT", *there)
        back = ("--destination", gateway, *to, "MASQUERADE")
        cluster.exec("iptables", "--table", "nat", "--append", "POSTROUTING", *back)


@contextlib.contextmanager
def registry(folder: Path, *, asks: bool = False) -> Iterator[int]:
    """A registry that keeps what it has in `folder`; with `asks` it wants credentials. Gives its port."""
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if asks:
        (folder / "htpasswd").write_text(HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "release", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [binary("registry"), "serve", folder / "config.yml"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_it_answers(port)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_it_answers(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=10).close()
        except urllib.error.HTTPError:  # it asks for credentials
            return
        except OSError:
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.1)
        else:
            return


@contextlib.contextmanager
def wire(to: int) -> Iterator[Wire]:
    """A port on every address of this machine (pods have theirs from a node, which is not this machine) that leads there."""
    (port,) = free_ports(1)
    between = Wire(port)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", to)) as there:
                back = threading.Thread(target=_copy, args=(there, self.request, None), daemon=True)
                back.start()
                _copy(self.request, there, between)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Server(("0.0.0.0", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield between
        server.shutdown()


def _copy(source: socket.socket, target: socket.socket, between: Wire | None) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            if between is not None and not between.passes(len(chunk)):
                break
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
