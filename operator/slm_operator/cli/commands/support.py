"""`kubectl slm support`: one archive that tells whoever helps what is going on, and tells nothing else.

What may leave the cluster is decided in `redact`. A right that is missing leaves a part out and is named in the archive.
Must never ask for a Secret, nor hold a replica's log: engines may print prompts.
"""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slm_operator.api import names
from slm_operator.cli.cluster import DAEMON_SET, DEPLOYMENT, PROFILE, REPLICA_SET, Cluster, ask
from slm_operator.cli.commands.check import plain
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.gather import gather
from slm_operator.cli.preflight.installation import OPERATOR_SELECTOR
from slm_operator.cli.preflight.stack import daemon_set
from slm_operator.cli.preflight.table import preflight
from slm_operator.cli.support import private_file, redact
from slm_operator.kube.errors import ApiError, NotFound
from slm_operator.kube.resources import EVENT, JOB, NODE, POD, WORKLOAD
from slm_operator.visible import visible

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable, Mapping

    from slm_operator.cli.preflight.facts import Facts
    from slm_operator.kube.resources import Resource

ROOT = "slm-support"
LOG_LINES, LOG_BYTES = 5000, 4 << 20
"""Most of a log that is taken. NB: whose pods bear the operator's labels is not known for sure."""
MANAGED = "app.kubernetes.io/managed-by=slm-operator"
KINDS = (names.DEPLOYMENT_KIND, names.PROFILE_KIND)
README = """What `kubectl slm support` saw on {when} in namespace {namespace}.

Secrets were never read. Values of variables, of arguments that are not known to be harmless, of labels and annotations
of others, and every text in a podTemplate were taken out, here and wherever else they were quoted. Logs of engines are
not in here, because engines may print prompts. Look through it before you pass it on.

{missing}
"""


class Wanted(NamedTuple):
    """Objects that one file is made of."""

    file: str
    resource: Resource
    namespace: str
    """Empty: of the whole cluster."""
    selector: str = ""


@dataclass(slots=True)
class Gathered:
    """Raw objects by file, logs by file, and what could not be read."""

    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def run(arguments: Namespace) -> int:
    """Write the archive and say what is in it."""

    async def work(cluster: Cluster) -> tuple[Gathered, Facts, str]:
        facts = await gather(cluster)
        return await collect(cluster, facts), facts, cluster.namespace

    gathered, facts, namespace = ask(arguments, work)
    now = datetime.now(UTC)
    files = bundle(gathered, facts, namespace, now)
    data = archive(files, now)
    path = Path(arguments.output)
    private_file.write(path, data, force=arguments.force)
    print(f"{path}: {len(files)} files, {len(data) / 1024:.0f} KiB: look through it before you pass it on")  # noqa: T201
    for sentence in gathered.missing:
        print(f"not in it: {sentence}")  # noqa: T201
    return 0


async def collect(cluster: Cluster, facts: Facts) -> Gathered:
    """Everything that this user may see of what concerns the operator."""
    found, here = Gathered(), cluster.namespace
    asked = (
        Wanted("deployments", DEPLOYMENT, here),
        Wanted("profiles", PROFILE, here),
        Wanted("workloads", WORKLOAD, here, MANAGED),
        Wanted("replica-sets", REPLICA_SET, here, MANAGED),
        Wanted("jobs", JOB, here, MANAGED),
        Wanted("pods", POD, here, MANAGED),
        Wanted("events", EVENT, here),
        Wanted("nodes", NODE, ""),
        Wanted("daemon-sets", DAEMON_SET, ""),
    )
    await asyncio.gather(*(_list(cluster, found, one) for one in asked))
    if here != "default":  # events of nodes are there
        await _list(cluster, found, Wanted("events-of-nodes", EVENT, "default"))
    if not isinstance(facts.operators, Unseen):
        for namespace in sorted({one.namespace for one in facts.operators}):
            await _list(cluster, found, Wanted("operator-pods", POD, namespace, OPERATOR_SELECTOR))
        await asyncio.gather(*(_log(cluster, found, raw) for raw in found.objects.get("operator-pods", ())))
    return found


async def _list(cluster: Cluster, found: Gathered, wanted: Wanted) -> None:
    try:
        some = await cluster.client.list(wanted.resource, wanted.namespace, wanted.selector)
    except NotFound:
        found.missing.append(f"{wanted.file}: this cluster does not know {wanted.resource.plural}")
    except ApiError as error:
        found.missing.append(f"{wanted.file}: {error.message}")
    else:
        found.objects.setdefault(wanted.file, []).extend(some)


async def _log(cluster: Cluster, found: Gathered, raw: Mapping[str, Any]) -> None:
    namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
    path = POD.path(namespace, name, "log")
    restarted = any(one.get("restartCount") for one in (raw.get("status") or {}).get("containerStatuses") or ())
    for which, previous in (("", "false"), (".previous", "true")):
        if previous == "true" and not restarted:
            continue
        params = {"container": "operator", "tailLines": str(LOG_LINES), "timestamps": "false", "previous": previous}
        params["limitBytes"] = str(LOG_BYTES)
        try:
            found.logs[f"logs/{name}{which}.log"] = visible(await cluster.client.page(path, params))
        except ApiError as error:
            found.missing.append(f"log of {namespace}/{name}{which}: {error.message}")


def bundle(gathered: Gathered, facts: Facts, namespace: str, now: datetime) -> dict[str, str]:
    """Path to text of every file, with nothing in them that may not leave the cluster."""
    raw = gathered.objects
    secrets = redact.taken_out(one for name in _WRITTEN_BY_USERS for one in raw.get(name, ()))
    values: dict[str, Any] = {
        f"{name}.json": [redact.cut(clean(one)) for one in raw[name]] for name, clean in _CLEANED.items() if name in raw
    }
    events = [*raw.get("events", ()), *raw.get("events-of-nodes", ())]
    values["events.json"] = [
        redact.cut(redact.event(one)) for one in sorted(filter(_concerns_us(raw), events), key=_when)
    ]
    values["check.json"] = plain(preflight(facts))
    values["versions.json"] = versions(facts, raw)
    files = {name: _text(redact.scrub(value, secrets)) for name, value in values.items()}
    files |= {name: redact.scrub(text, secrets) for name, text in gathered.logs.items()}
    missing = redact.scrub("; ".join(gathered.missing), secrets)
    completeness = f"Not in here: {missing}" if missing else "Everything that was looked for could be read."
    readme = README.format(when=now.isoformat(timespec="seconds"), namespace=namespace, missing=completeness)
    return {"README.txt": readme} | dict(sorted(files.items()))


def versions(facts: Facts, raw: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, Any]:
    """Of everything that has one."""
    stack = [daemon_set(one) for one in raw.get("daemon-sets", ())]
    nodes = () if isinstance(facts.nodes, Unseen) else facts.nodes
    operators = () if isinstance(facts.operators, Unseen) else facts.operators
    return {
        "kubectlSlm": version("slm-operator"),
        "apiServer": facts.server,
        "operators": {f"{one.namespace}/{one.name}": one.version for one in operators},
        "nvidia": {str(one): one.image for one in stack if one is not None},
        "kubelets": {one.state.name: one.kubelet for one in nodes},
    }


def archive(files: Mapping[str, str], now: datetime) -> bytes:
    """The files as a gzipped tar, in one folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            content = text.encode()
            entry = tarfile.TarInfo(f"{ROOT}/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(now.timestamp()), private_file.ONLY_ITS_OWNER
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


_CLEANED: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "deployments": redact.slm_object,
    "profiles": redact.slm_object,
    "workloads": redact.workload,
    "replica-sets": redact.workload,
    "jobs": redact.workload,
    "pods": redact.pod,
    "operator-pods": redact.pod,
    "nodes": redact.node,
}
"""What each file holds of its objects. Of NVIDIA's DaemonSets it holds versions only."""


_WRITTEN_BY_USERS = ("deployments", "profiles", "workloads", "replica-sets", "jobs", "pods")


def _concerns_us(raw: Mapping[str, Iterable[Mapping[str, Any]]]) -> Callable[[Mapping[str, Any]], bool]:
    """Events about our kinds, about what the operator made, and about nodes by the operator."""
    mine = ("workloads", "replica-sets", "jobs", "pods")
    made = {one["metadata"]["name"] for name in mine for one in raw.get(name, ())}

    def concerns(event: Mapping[str, Any]) -> bool:
        regarding = event.get("regarding") or {}
        by_us = event.get("reportingController") == names.FIELD_MANAGER
        return by_us or regarding.get("kind") in KINDS or regarding.get("name") in made

    return concerns


def _when(event: Mapping[str, Any]) -> str:
    return str(event.get("eventTime") or event.get("deprecatedLastTimestamp") or "")


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"
