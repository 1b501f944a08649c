"""The configuration of HAProxy as the router in a pack's pod: one address in front of R engines.

It sends each request to the engine with the fewest in flight, on a connection of its own: then "no connection" means
that no engine has begun the request and another may have it, and whatever fails later is the client's to see. It must
never send a request a second time, wait where every engine is full, or take orders on the port of the requests.
Written for HAProxy 2.6 and newer; docs/adr/0028-haproxy-is-the-router-in-a-pack.md says why HAProxy.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.pack_pod import AGENT_INTERVAL_MS, AGENT_TIMEOUT_SECONDS, ROUTER_END_SECONDS, engine_name

if TYPE_CHECKING:
    from slm_core.engines.base import Paths

RETRY_AFTER_SECONDS = 5
"""What a client that got no engine is asked to wait."""
SILENT_SECONDS = 3600
"""How long a request may go without a byte, either way. A client that waits for the end of a long answer sees none."""
IDLE_CONNECTIONS = 4096
"""Connections that clients keep without a request on them, beside those with one."""
HEAD_BYTES = 65536
"""The longest head of a request, less a kilobyte: what gateways let through, engines take."""
CHECK_SECONDS, CHECKS = 2, 3
"""An engine that stutters for 15 s gets no new requests, as a replica's readiness probe has it; sooner when it is gone."""
_UNAVAILABLE = {"message": "no engine can take the request now", "type": "ServiceUnavailable", "code": 503}


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """What the router of one pack must know. All ports are the pod's; engines and supervisor are asked on loopback."""

    port: int
    """Where requests come in."""
    metrics_port: int
    """Where the router's own metrics are: a page to read, on a port that no Service has."""
    engine_ports: tuple[int, ...]
    most_in_flight: int
    """Requests that one engine takes before it would answer 503."""
    agent_port: int
    """Where the supervisor says of an engine, by its name on a line, `ready` or `drain`."""
    status_port: int
    """Where the supervisor has the metrics of all engines on one page."""
    paths: Paths
    """Where an engine answers what. Health is answered by the router, and metrics by the supervisor."""


def router_config(router: Router) -> str:
    """The text of haproxy.cfg."""
    return "\n\n".join((_global(router), _defaults(), _requests(router), _engines(router), _supervisor(router))) + "\n"


def _global(router: Router) -> str:
    # NB: one thread. With more, two requests at the same moment may both see the last free place of an engine.
    return f"""\
global
    nbthread 1
    maxconn {len(router.engine_ports) * router.most_in_flight + IDLE_CONNECTIONS}
    tune.bufsize {HEAD_BYTES}
    hard-stop-after {ROUTER_END_SECONDS}s
    log stdout format raw local0 notice"""


def _defaults() -> str:
    # NB: http-server-close. A request on a kept connection can meet an engine that is just closing it, and then nobody
    # knows whether it has begun. abortonclose: else an engine works to the end for a client that has left.
    return f"""\
defaults
    mode http
    log global
    option httplog
    option log-separate-errors
    option dontlognull
    option http-server-close
    option http-no-delay
    option abortonclose
    timeout client {SILENT_SECONDS}s
    timeout server {SILENT_SECONDS}s
    timeout tunnel {SILENT_SECONDS}s
    timeout http-request 30s
    timeout http-keep-alive 120s
    timeout connect 1s
    timeout queue 1s
    timeout check {AGENT_TIMEOUT_SECONDS}s
    http-error status 503 content-type application/json string '{json.dumps({"error": _UNAVAILABLE})}' hdr Retry-After {RETRY_AFTER_SECONDS}"""


def _requests(router: Router) -> str:
    # Ready is the pack with one engine, full or not. A request that finds no free place is refused at once, and waits nowhere.
    return f"""\
frontend requests
    bind :{router.port}
    acl health path {router.paths.health}
    acl metrics path {router.paths.metrics}
    http-request set-log-level silent if health
    http-request return status 200 if health {{ nbsrv(engines) gt 0 }}
    http-request return status 503 default-errorfiles if !metrics {{ be_conn_free(engines) lt 1 }}
    use_backend supervisor if metrics
    default_backend engines

frontend metrics
    bind :{router.metrics_port}
    http-request return status 404 if !{{ path {router.paths.metrics} }}
    http-request use-service prometheus-exporter"""


def _engines(router: Router) -> str:
    # A refused connection takes the engine out at once (observe), or two dead ones would be tried in turn to the end.
    # NB: an engine that drains still listens and calls itself healthy; only the supervisor knows, by the agent check.
    servers = "\n".join(
        rf"    server {engine_name(index)} 127.0.0.1:{port} agent-send {engine_name(index)}\n"
        for index, port in enumerate(router.engine_ports)
    )
    return f"""\
backend engines
    balance leastconn
    retry-on conn-failure
    retries {len(router.engine_ports)}
    option redispatch 1
    option httpchk
    http-check send meth GET uri {router.paths.health} ver HTTP/1.1 hdr Host localhost
    http-check expect status 200
    default-server maxconn {router.most_in_flight}
    default-server check inter {CHECK_SECONDS}s fastinter 1s downinter 500ms rise 1 fall {CHECKS}
    default-server observe layer4 error-limit 1 on-error mark-down
    default-server agent-check agent-addr 127.0.0.1 agent-port {router.agent_port} agent-inter {AGENT_INTERVAL_MS}ms
{servers}"""


def _supervisor(router: Router) -> str:
    return f"""\
backend supervisor
    server supervisor 127.0.0.1:{router.status_port}"""
