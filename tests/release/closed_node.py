"""A kind node without a route out: what it can open a connection to is one registry on this machine, and nothing else."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.testbed.docker_engine import DockerError

if TYPE_CHECKING:
    from tests.testbed.kind import KindCluster

    from .loopback import Wire

LINK = "eth0"
PULL = ("ctr", "--namespace", "k8s.io", "images", "pull")


@dataclass(frozen=True, slots=True)
class ClosedNode:
    """The node of a cluster, and the wire to the registry that it may reach as localhost."""

    cluster: KindCluster
    mirror: Wire

    def close(self) -> None:
        """Take its default route, and refuse what it or a pod would begin with this machine, but for the registry."""
        self.mirror.reach_from(self.cluster)
        self.cluster.exec("ip", "route", "delete", "default")
        begun = ("--out-interface", LINK, "--match", "conntrack", "--ctstate", "NEW")
        to_mirror = ("--out-interface", LINK, "--protocol", "tcp", "--dport", str(self.mirror.port))
        for chain in ("OUTPUT", "FORWARD"):
            self.cluster.exec("iptables", "--insert", chain, *begun, "--jump", "REJECT")
        self.cluster.exec("iptables", "--insert", "OUTPUT", *to_mirror, "--jump", "ACCEPT")

    def asks(self, url: str, *options: str) -> str:
        """The status that the node gets there; empty where it gets no connection."""
        words = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "10")
        try:
            return self.cluster.exec("curl", *words, *options, url).strip()
        except DockerError:
            return ""

    def why_no_pull(self, image: str) -> str:
        """What its container runtime says to an image that it cannot pull; empty where it can."""
        try:
            self.cluster.exec(*PULL, "--plain-http", image)
        except DockerError as error:
            return str(error)
        return ""

    def images(self) -> list[str]:
        """Names of the images that it has."""
        return self.cluster.exec("ctr", "--namespace", "k8s.io", "images", "list", "--quiet").split()


def own_address() -> str:
    """The address of this machine on its own link. NB: a datagram socket that is connected has sent nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(("198.51.100.1", 9))
        address: str = asked.getsockname()[0]
    return address
