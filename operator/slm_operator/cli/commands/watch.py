"""`kubectl slm watch`: the deployments and running profiles of a namespace, live.

Reads the lists every few seconds rather than watching: two small requests, and nothing to resume after a lost
connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rich.live import Live

from slm_operator.cli.cluster import DEPLOYMENT, PROFILE, Cluster, ask
from slm_operator.cli.render.story import overview
from slm_operator.cli.render.terminal import console

if TYPE_CHECKING:
    from argparse import Namespace

    from rich.console import RenderableType

SECONDS = 2.0


def run(arguments: Namespace) -> int:
    """Show until interrupted; with --once, print and end."""

    async def show(cluster: Cluster) -> None:
        out = console()
        if arguments.once or not out.is_terminal:
            out.print(await _seen(cluster))
            return
        with Live(await _seen(cluster), console=out, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(SECONDS)
                live.update(await _seen(cluster), refresh=True)

    ask(arguments, show)
    return 0


async def _seen(cluster: Cluster) -> RenderableType:
    deployments: list[dict[str, Any]] = await cluster.client.list(DEPLOYMENT, cluster.namespace)
    profiles: list[dict[str, Any]] = await cluster.client.list(PROFILE, cluster.namespace)
    return overview(cluster.namespace, deployments, profiles)
