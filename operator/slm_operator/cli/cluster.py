"""A command's way to the cluster: one connection by kubeconfig, and every failure as a sentence with a remedy.

Assumes the user's own rights; nothing here raises them. Must never import before a command needs a cluster: `advise`
does not.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yaml import YAMLError

from slm_operator.api import names
from slm_operator.cli.errors import Refused
from slm_operator.kube.client import Client
from slm_operator.kube.connection import ConfigException, connect
from slm_operator.kube.errors import ApiError, Conflict, Forbidden, NotFound, Unavailable
from slm_operator.kube.resources import Resource, ResourceTable
from slm_operator.visible import visible_in

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable

    from slm_operator.kube.connection import Connection

T = TypeVar("T")

DEPLOYMENT = Resource(names.API_VERSION, names.DEPLOYMENT_KIND, "slmdeployments")
PROFILE = Resource(names.API_VERSION, names.PROFILE_KIND, "slmprofiles")
NAMESPACE = Resource("v1", "Namespace", "namespaces", namespaced=False)
DAEMON_SET = Resource("apps/v1", "DaemonSet", "daemonsets")
REPLICA_SET = Resource("apps/v1", "ReplicaSet", "replicasets")
LEASE_NAME = "slm-operator"
"""As assembly.LEASE_NAME has it; a test compares them. The operator's parts take long to import."""
FIELD_MANAGER = "kubectl-slm"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, and the namespace that the command is about."""

    client: Client
    connection: Connection
    namespace: str

    async def deployment(self, name: str) -> dict[str, Any]:
        """An SLMDeployment as it stands."""
        return await self._named(DEPLOYMENT, self.namespace, name)

    async def profile(self, name: str, namespace: str | None = None) -> dict[str, Any]:
        """An SLMProfile as it stands. `namespace`: a library's; None: the command's own."""
        return await self._named(PROFILE, namespace or self.namespace, name)

    async def _named(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """NB: an empty name is the path of the list, and dots are other paths: a variable of a script may be either."""
        if name in {"", ".", ".."}:
            raise Refused(f"{name!r} is no name of an {resource.kind}: `kubectl get {resource.plural}` lists them")
        try:
            return await self.client.get(resource, namespace, name)
        except NotFound as error:
            if namespace == self.namespace:
                raise
            raise Refused(
                f"{error.message} in namespace {namespace}: `kubectl get slm -A` lists what there is"
            ) from None


def ask(arguments: Namespace, work: Callable[[Cluster], Awaitable[T]]) -> T:
    """Do `work` against the cluster that the command line names. Raises Refused for whatever the cluster answers."""
    return asyncio.run(_ask(_kubeconfig(arguments.kubeconfig), arguments, work))


async def _ask(kubeconfig: str, arguments: Namespace, work: Callable[[Cluster], Awaitable[T]]) -> T:
    try:
        connection = await connect(Path(kubeconfig), arguments.context)
        namespace = arguments.namespace or connection.namespace
    except (ConfigException, OSError) as error:
        why = " ".join(str(error).split())
        raise Refused(f"no cluster: the kubeconfig {kubeconfig}: {why}: fix it, or give --context") from None
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError):
        raise Refused(f"no cluster: {kubeconfig} is not a kubeconfig: give --kubeconfig, or set KUBECONFIG") from None
    resources = ResourceTable((DEPLOYMENT, PROFILE))
    try:
        client = Client(connection, resources, FIELD_MANAGER, take=visible_in)
        return await work(Cluster(client, connection, namespace))
    except ApiError as error:
        raise Refused(sentence(error, connection.server, namespace)) from None
    finally:
        await connection.close()


def sentence(error: ApiError, server: str, namespace: str) -> str:
    """What the API server's answer means to whoever typed the command."""
    match error:
        case Unavailable() if error.status == 401:
            return f"{server} refuses these credentials: log in again, or give another --context"
        case Unavailable():
            return f"the cluster at {server} does not answer: {error.message}: check --context and the network"
        case Forbidden():
            return f"no rights: {error.message}: ask whoever runs the cluster for this right"
        case NotFound() if "the server could not find" in error.message or "page not found" in error.message:
            return f"this cluster does not know {names.GROUP}: install the chart slm-operator"
        case NotFound():
            return f"{error.message} in namespace {namespace}: `kubectl get slm -A` lists what there is"
        case Conflict():
            return f"{error.message}: delete the old one first, or give another --name"
        case _:
            return error.message


def _kubeconfig(given: str | None) -> str:
    """Paths of kubeconfig files, as kubectl finds them. Raises Refused when none exists.

    NB: given explicitly, because the library reads KUBECONFIG once, at import, and prints when a file is missing.
    """
    named = given or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if not any(Path(part).is_file() for part in named.split(os.pathsep)):
        raise Refused(f"no cluster: no kubeconfig at {named}: give --kubeconfig, or set KUBECONFIG")
    return named
