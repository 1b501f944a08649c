"""What a cluster must have before a small language model can be served from shared GPUs, as a table of pure checks.

The order is the one in which one would install. Each check answers, or says nothing (None) where another one has said
it already or where it does not apply. Must never ask the cluster: `gather` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_operator.api import names
from slm_operator.cli.preflight.doors import DOOR_CHECKS
from slm_operator.cli.preflight.facts import Unseen
from slm_operator.cli.preflight.findings import ASK, Answer, Finding, ok, problem, some, warning
from slm_operator.cli.preflight.nodes import NODE_CHECKS, OLDEST_KUBERNETES
from slm_operator.cli.preflight.packs import PACK_CHECKS
from slm_operator.cli.preflight.stack_checks import STACK_CHECKS
from slm_operator.partitioning import RESOURCES
from slm_operator.version import dotted, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from slm_operator.cli.preflight.facts import Facts

    Check = Callable[[Facts], Answer | None]


def preflight(facts: Facts) -> tuple[Finding, ...]:
    """Every check's findings: those about the cluster, then those about the nodes that opted in."""
    answers = ((name, check(facts)) for name, check in CHECKS)
    findings = [Finding(check=name, answer=answer) for name, answer in answers if answer is not None]
    for name, look in NODE_CHECKS:
        same: dict[Answer, list[str]] = {}
        for node in facts.opted_in:
            answer = look(node, facts)
            if answer is not None:
                same.setdefault(answer, []).append(node.state.name)
        findings += [Finding(check=name, answer=answer, nodes=tuple(on)) for answer, on in same.items()]
    return tuple(findings)


def _kubernetes(facts: Facts) -> Answer:
    version = version_of(facts.server)
    if version is None:
        return warning(
            f"the API server says it is {facts.server or '?'}", f"see that it is {dotted(OLDEST_KUBERNETES)} or newer"
        )
    if version < OLDEST_KUBERNETES:
        return problem(f"the API server is {facts.server}", f"upgrade to {dotted(OLDEST_KUBERNETES)} or newer")
    return ok(f"the API server is {facts.server}")


def _kinds(facts: Facts) -> Answer:
    if facts.missing_kinds:
        return problem(f"{' and '.join(facts.missing_kinds)} not known here", "install the chart slm-operator")
    return ok(f"{names.API_VERSION} is served")


def _schema(facts: Facts) -> Answer | None:
    schema = facts.schema
    if facts.missing_kinds:
        return None
    if isinstance(schema, Unseen):
        return warning(f"whether the CRDs are of this version is not known: no right to {schema.right}", ASK)
    if schema.lacking:
        return problem(
            f"the CRDs are older than this command: they lack {some(schema.lacking)}",
            "bring those of this version: helm show crds CHART | kubectl apply --server-side --force-conflicts -f -",
        )
    if schema.unknown:
        return warning(
            f"the CRDs are newer than this command: it does not know {some(schema.unknown)}",
            "install kubectl-slm of the operator's version",
        )
    return ok("every field is as this command knows it")


def _operator(facts: Facts) -> Answer:
    found = facts.operators
    if isinstance(found, Unseen):
        return warning(f"not seen: no right to {found.right}", ASK)
    if not found:
        return problem("no Deployment of the operator", "install the chart slm-operator")
    if len(found) > 1:
        where = ", ".join(f"{one.namespace}/{one.name}" for one in found)
        return warning(f"installed {len(found)} times: {where}", "keep one of them that serves all namespaces")
    (one,) = found
    said = f"{one.ready} of {one.wanted} ready in namespace {one.namespace}, version {one.version}"
    if one.ready == 0:
        return problem(said, f"read its log: kubectl logs -n {one.namespace} deploy/{one.name}")
    return ok(said)


def _lease(facts: Facts) -> Answer | None:
    lease = facts.lease
    if isinstance(facts.operators, Unseen) or not facts.operators:
        return None
    at = facts.operators[0]
    if isinstance(lease, Unseen):
        return warning(f"whether an operator acts is not known: no right to {lease.right}", ASK)
    read = f"read the operator's log: kubectl logs -n {at.namespace} deploy/{at.name}"
    if lease is None:
        return problem(f"no Lease in namespace {at.namespace}: no operator has ever acted", read)
    if not lease.holder:
        return problem("the Lease is held by nobody: no operator acts", read)
    if not lease.renewing:
        since = f"{lease.age_seconds:.0f} s ago"
        return problem(f"{lease.holder} holds the Lease and renewed it last {since}: no operator acts", read)
    return ok(f"{lease.holder} acts")


def _settings(facts: Facts) -> Answer:
    if facts.settings_doubt:
        return warning(f"{facts.settings_doubt}: the defaults are assumed below", "helm get values tells what was set")
    plugin = facts.settings.device_plugin
    scope = ", ".join(facts.settings.namespaces) or "all namespaces"
    return ok(f"serves {scope}; the device plugin's ConfigMap is {plugin.namespace}/{plugin.config_map}")


def _defaults(facts: Facts) -> Answer | None:
    """Who runs otherwise than one that is made today: a changed default restarts nobody."""
    if isinstance(facts.wishes, Unseen) or facts.settings_doubt or not facts.wishes:
        return None
    behind = [wish for wish in facts.wishes if wish.older]
    if not behind:
        return ok("every SLMDeployment has the operator's defaults of now, or its own")
    what = some(sorted({name for wish in behind for name in wish.older}))
    return warning(
        f"{some(wish.name for wish in behind)} keep former defaults of the operator ({what}): a changed default restarts nothing",
        f"have one take those of now: kubectl slm upgrade {behind[0].name.partition('/')[2]} -n {behind[0].name.partition('/')[0]}",
    )


def _libraries(facts: Facts) -> Answer | None:
    """Whether profiles are found where the settings have them looked for: nobody else says that they are not."""
    setting, served = "config.profiles.libraryNamespaces", facts.settings.namespaces
    if not facts.libraries:
        return None
    if absent := [name for name, there in facts.libraries.items() if there is False]:
        return warning(
            f"{setting} names {some(absent)}, which does not exist: models are measured again whose profile it was to have",
            f"kubectl create namespace {absent[0]}, or take it out of {setting}",
        )
    if unserved := [name for name in facts.libraries if served and name not in served]:
        return warning(
            f"{setting} names {some(unserved)}, which the operator does not serve: it sees no profile there",
            f"add it to config.namespaces ({', '.join(served)}), or take it out of {setting}",
        )
    if unseen := [there for there in facts.libraries.values() if isinstance(there, Unseen)]:
        return warning(f"whether a library of profiles exists is not known: no right to {unseen[0].right}", ASK)
    return ok(f"profiles of {some(facts.libraries)} are used where a namespace has none of its own")


def _may_deploy(facts: Facts) -> Answer:
    right = "create slmdeployments"
    if right in facts.rights_missing:
        return problem(
            f"you may not create an SLMDeployment in namespace {facts.namespace}",
            f"ask for the right to {right} there, or give another -n",
        )
    return ok(f"you may create an SLMDeployment in namespace {facts.namespace}")


def _may_more(facts: Facts) -> Answer:
    lacking = [
        f"{right} (for {use})" for right, use in facts.rights_missing.items() if right != "create slmdeployments"
    ]
    if lacking:
        return warning(f"you may not {', '.join(lacking)}", ASK)
    return ok("you have every other right that these commands use")


def _opt_in(facts: Facts) -> Answer | None:
    if isinstance(facts.nodes, Unseen):
        return warning(f"nodes are not seen: no right to {facts.nodes.right}", ASK)
    with_gpus = [node.state.name for node in facts.nodes if node.state.gpus or _offers(node.state.node.allocatable)]
    if not with_gpus:
        return problem(
            "no node offers an NVIDIA GPU", "install NVIDIA's GPU Operator, or its device plugin with feature discovery"
        )
    if not facts.opted_in:
        return warning(
            f"none of {len(with_gpus)} GPU nodes opted in: engines share a GPU in one pod, and no node is divided into slices",
            f"for slices: kubectl label node {with_gpus[0]} {facts.settings.nodes.opt_in_label}=true",
        )
    gpus = sum(node.state.gpus for node in facts.opted_in)
    return ok(f"{len(facts.opted_in)} of {len(with_gpus)} GPU nodes, with {gpus} GPUs")


CHECKS: tuple[tuple[str, Check], ...] = (
    ("Kubernetes", _kubernetes),
    ("API", _kinds),
    ("CRDs", _schema),
    ("Operator", _operator),
    ("Lease", _lease),
    ("Settings", _settings),
    ("Defaults", _defaults),
    ("Library", _libraries),
    ("Right to deploy", _may_deploy),
    ("Other rights", _may_more),
    ("Opt-in", _opt_in),
    *STACK_CHECKS,
    *PACK_CHECKS,
    *DOOR_CHECKS,
)


def _offers(allocatable: Mapping[str, int]) -> bool:
    return any(allocatable.get(resource) for resource in RESOURCES)
