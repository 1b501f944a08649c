"""`slm-operator run`: read the arguments and the settings, run until asked to stop, exit with what happened."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from slm_operator.logs import start_logging
from slm_operator.settings import Settings, SettingsError, read_settings

log = logging.getLogger(__name__)

IN_CLUSTER_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line said."""

    settings: Settings
    kubeconfig: Path | None
    namespace: str
    leader_election: bool
    liveness_port: int
    metrics_port: int
    metrics_tls: Path | None


def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    start_logging(verbose=arguments.verbose)
    sys.exit(_run_command(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slm-operator", description="Serve small language models from shared GPUs.")
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("run", help="watch the cluster and act, until SIGTERM")
    run.add_argument(
        "--config", type=Path, help="settings as YAML, or a folder of such files (default: built-in settings)"
    )
    run.add_argument("--kubeconfig", type=_existing, help="kubeconfig (default: the pod's service account)")
    run.add_argument("--namespace", help="namespace of the Lease (default: the pod's, else default)")
    run.add_argument("--no-leader-election", action="store_true", help="act at once, without a Lease: one process only")
    run.add_argument("--liveness-port", type=int, default=8080, help="port of /healthz; 0: none (default: 8080)")
    run.add_argument("--metrics-port", type=int, default=9090, help="port of /metrics; 0: none (default: 9090)")
    run.add_argument(
        "--metrics-tls",
        type=Path,
        help="folder with tls.crt and tls.key: /metrics by TLS, to whom the API server lets get it (default: to everybody)",
    )
    run.add_argument("--verbose", action="store_true", help="log what libraries say too")
    return parser


def _existing(name: str) -> Path:
    """NB: the kubernetes package takes a kubeconfig that is not there for an empty one."""
    if not Path(name).exists():
        raise argparse.ArgumentTypeError(f"there is no file {name}")
    return Path(name)


def _run_command(arguments: argparse.Namespace) -> int:
    try:
        settings = read_settings(arguments.config)
    except SettingsError as error:
        print(f"slm-operator: {error}", file=sys.stderr)  # noqa: T201 - a person reads this
        return 2
    options = Options(
        settings=settings,
        kubeconfig=arguments.kubeconfig,
        namespace=arguments.namespace or _own_namespace(),
        leader_election=not arguments.no_leader_election,
        liveness_port=arguments.liveness_port,
        metrics_port=arguments.metrics_port,
        metrics_tls=arguments.metrics_tls,
    )
    return asyncio.run(run(options))


def _own_namespace() -> str:
    if IN_CLUSTER_NAMESPACE.exists():
        return IN_CLUSTER_NAMESPACE.read_text().strip()
    return os.environ.get("POD_NAMESPACE", "default")


async def run(options: Options) -> int:
    """Run the operator. Gives the exit code: 0 after SIGTERM, 1 when it cannot go on."""
    # A bad argument must not cost a second of imports.
    from slm_operator.assembly import assemble, guarded  # noqa: PLC0415
    from slm_operator.kube.connection import ConfigException, connect  # noqa: PLC0415
    from slm_operator.kube.errors import ApiError  # noqa: PLC0415
    from slm_operator.metrics import Metrics  # noqa: PLC0415
    from slm_operator.watch.kopf_adapter import leave_behind, watch_until_stopped  # noqa: PLC0415

    try:
        connection = await connect(options.kubeconfig, in_cluster=options.kubeconfig is None)
    except (ConfigException, OSError) as error:
        log.error("no credentials", extra={"because": f"{str(error).rstrip('.')}: give --kubeconfig, or run in a pod"})  # noqa: TRY400
        return 1
    metrics = Metrics()
    operator = assemble(
        connection,
        options.settings,
        metrics,
        namespace=options.namespace,
        leader_election=options.leader_election,
    )
    try:
        await operator.check_served()
    except ApiError as error:
        log.error("cannot start", extra={"object": connection.server, "because": error.message})  # noqa: TRY400
        await connection.close()
        return 1
    try:
        guard = guarded(connection, metrics, options.metrics_tls)
    except OSError as error:
        because = f"no certificate of /metrics: {error}"
        log.error("cannot start", extra={"object": str(options.metrics_tls), "because": because})  # noqa: TRY400
        await connection.close()
        return 1
    server = await metrics.serve("0.0.0.0", options.metrics_port, guard) if options.metrics_port else None  # noqa: S104
    ended = await watch_until_stopped(operator, options.settings.namespaces, options.liveness_port)
    await connection.close()
    if server is not None:
        await server.cleanup()
    code = _farewell(operator.failure or ended.failure)
    if ended.left_behind:
        leave_behind(code)
    return code


def _farewell(failure: BaseException | None) -> int:
    if failure is None:
        log.info("stopped", extra={"because": "it was asked to"})
        return 0
    causes = failure.exceptions if isinstance(failure, BaseExceptionGroup) else (failure,)
    for cause in causes:
        log.error("stopping", extra={"because": f"{type(cause).__name__}: {cause}"}, exc_info=cause)
    return 1
