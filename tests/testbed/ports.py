"""Free TCP ports on loopback for servers that are given their port."""

import contextlib
import random
import socket

# NB: below the range of outgoing connections (32768 and up). A client that retries a port of that
# range while its server restarts can be given this very port as its own, and then talks to itself.
FIRST, LAST = 20000, 32000


def free_ports(count: int) -> list[int]:
    """Distinct ports that nobody listens on now; OSError where there are too few."""
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        for port in random.sample(range(FIRST, LAST), 50 * count):
            if len(ports) == count:
                return ports
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                ports.append(port)
    raise OSError(f"no {count} free ports between {FIRST} and {LAST} on 127.0.0.1")
