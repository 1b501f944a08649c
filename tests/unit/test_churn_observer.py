"""The observer of churn finds what it looks for: each rule, broken and kept, fed as a watch would feed it."""

from collections.abc import Callable
from typing import Any

import pytest
from slm_operator.api import names

from benchmarks.churn.observer import CONFIG, DELAY_SECONDS, LEAVES, MANAGED, Observer
from tests import builders as build

Event = tuple[str, Any]
LENT = {MANAGED: "true"}
SERVES_X = {"slm-operator.io/serves": "x"}
TAINT = {"key": "slm-operator.io/changing", "effect": "NoSchedule"}
READY = [{"type": "Ready", "status": "True"}]


def node(version: int, labels: dict[str, str] | None = None, **more: Any) -> Any:
    head = {"version": version} | more.pop("meta", {})
    return {"kind": "Node"} | build.raw_node("n", labels=labels, spec=more, **head)


def pod(version: int, *, phase: str = "Running", namespace: str = "churn", **labels: str) -> Any:
    resource, status = names.NVIDIA_SHARED_GPU, {"phase": phase}
    made = build.raw_pod("p", namespace, node="n", resource=resource, status=status, version=version, labels=labels)
    return {"kind": "Pod"} | made


def config(version: int, **keys: str) -> Any:
    return {"kind": "ConfigMap", "metadata": build.raw_meta("c", version=version), "data": keys}


def served(version: int, generation: int = 1, *, ready: bool = True) -> Any:
    status = {"observedGeneration": generation, "conditions": READY} if ready else {}
    return build.raw_deployment("d", status=status, uid="d", version=version, generation=generation)


WAITING = served(8) | {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NoCapacity"}]}}


def child(kind: str, version: int = 1, name: str = "d", owner: str = "d", **status: int) -> Any:
    meta = {"name": name, "resourceVersion": str(version), "ownerReferences": [{"uid": owner}]}
    return {"kind": kind, "metadata": meta, "status": status}


def budget(version: int, healthy: int) -> Any:
    return child("PodDisruptionBudget", version, currentHealthy=healthy, desiredHealthy=1)


SWITCHED = node(9, LENT | {CONFIG: "slm-a"})
TOUCHED = {"managedFields": [{"manager": "slm-operator"}]}
BROKEN: dict[str, tuple[list[Event], str]] = {
    "a switch under a pod": ([("ADDED", node(1, LENT)), ("ADDED", pod(5)), ("MODIFIED", SWITCHED)], "was switched at 9 under p"),
    "a switch under a pod that is seen later": ([("ADDED", node(1, LENT)), ("MODIFIED", SWITCHED), ("ADDED", pod(5))], "under p"),
    "a foreign pod evicted": ([("ADDED", node(1)), ("ADDED", pod(5, namespace="foreign")), ("DELETED", pod(8, namespace="foreign"))], "foreign pod p"),
    "a foreign pod evicted from a node that was lost before it": ([("ADDED", node(1)), ("DELETED", node(2)), ("ADDED", node(3)), ("ADDED", pod(5, namespace="foreign")), ("DELETED", pod(8, namespace="foreign"))], "foreign pod p"),
    "a node that nobody lent": ([("ADDED", node(1)), ("MODIFIED", node(2, meta=TOUCHED))], "nobody had lent it"),
    "a key in use is removed": ([("ADDED", config(1, a="x")), ("ADDED", node(2, LENT | {CONFIG: "a"})), ("MODIFIED", config(3))], "key a"),
    "a key in use is edited": ([("ADDED", config(1, a="x")), ("ADDED", node(2, LENT | {CONFIG: "a"})), ("MODIFIED", config(3, a="y"))], "key a"),
}  # fmt: skip
KEPT: dict[str, list[Event]] = {
    "a switch after the pod": [("ADDED", node(1, LENT)), ("ADDED", pod(5)), ("DELETED", pod(8)), ("MODIFIED", SWITCHED)],
    "a switch before the pod": [("ADDED", node(1, LENT)), ("ADDED", pod(12)), ("MODIFIED", SWITCHED)],
    "a switch after the pod ended": [("ADDED", node(1, LENT)), ("ADDED", pod(5)), ("MODIFIED", pod(8, phase="Failed")), ("MODIFIED", SWITCHED)],
    "a foreign pod deleted by its owner": [("ADDED", node(1)), ("ADDED", pod(5, namespace="foreign")), ("DELETED", pod(8, namespace="foreign", **{LEAVES: "true"}))],
    "a foreign pod lost with its node": [("ADDED", node(1)), ("ADDED", pod(5, namespace="foreign")), ("DELETED", pod(8, namespace="foreign")), ("DELETED", node(7))],
    "a key out of use is removed": [("ADDED", config(1, a="x")), ("ADDED", node(2, LENT | {CONFIG: "a"})), ("MODIFIED", node(3, LENT)), ("MODIFIED", config(4))],
}  # fmt: skip


@pytest.fixture
def tells() -> Callable[..., Observer]:
    """An observer that was fed these events, and has judged them all."""

    def tell(events: list[Event]) -> Observer:
        seconds = [0.0]
        observer = Observer(namespace="churn", foreign="foreign", clock=lambda: seconds[0])
        for event, raw in events:
            observer.see(event, raw)
            seconds[0] += DELAY_SECONDS / 2 if event == "ADDED" else 0.0
        seconds[0] += DELAY_SECONDS
        observer.judge()
        return observer

    return tell


@pytest.mark.parametrize(("events", "says"), BROKEN.values(), ids=BROKEN)
def test_forbidden_churn_breaks_a_rule(tells: Callable[..., Observer], events: list[Event], says: str) -> None:
    (broken,) = tells(events).broken
    assert says in broken


@pytest.mark.parametrize("events", KEPT.values(), ids=KEPT)
def test_lawful_churn_breaks_no_rule(tells: Callable[..., Observer], events: list[Event]) -> None:
    assert tells(events).broken == []


STEADY: list[Event] = [
    ("ADDED", served(1, ready=False)),
    ("MODIFIED", served(2)),
    ("ADDED", node(3)),
    ("ADDED", node(4)),
]
"""Ready since long enough: each ADDED takes a while here."""


@pytest.mark.parametrize(
    ("then", "broken"),
    [
        ([("MODIFIED", budget(9, healthy=0))], 1),
        ([("MODIFIED", budget(9, healthy=1))], 0),
        ([("MODIFIED", served(8, generation=2, ready=False)), ("MODIFIED", budget(9, healthy=0))], 0),
        ([("MODIFIED", budget(9, healthy=0)), ("MODIFIED", served(8, generation=2, ready=False))], 0),
        ([("ADDED", pod(5, **{"slm-operator.io/deployment": "d"})), ("DELETED", node(8)), ("MODIFIED", budget(9, healthy=0))], 0),
    ],
    ids=["undisturbed", "enough", "edited before", "edited before, seen later", "its node was lost"],
)  # fmt: skip
def test_replicas_below_the_budget(tells: Callable[..., Observer], then: list[Event], broken: int) -> None:
    assert len(tells([*STEADY, *then]).broken) == broken


WHOLE: list[Event] = [("ADDED", served(1)), *(("ADDED", child(kind)) for kind in ("Deployment", "Service"))]
WHOLE += [("ADDED", budget(2, healthy=1))]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        (WHOLE, []),
        ([*WHOLE, ("MODIFIED", served(9, generation=2, ready=False))], ["d is not Ready (None)"]),
        ([*WHOLE, ("MODIFIED", WAITING)], []),
        ([*WHOLE, ("MODIFIED", WAITING), ("ADDED", node(2, LENT)), ("ADDED", pod(3))], []),
        ([*WHOLE, ("MODIFIED", WAITING), ("ADDED", node(2, LENT))], ["d is not Ready (NoCapacity), and node n is idle"]),
        (WHOLE[:-1], ["d has 0 PodDisruptionBudgets"]),
        ([*WHOLE, ("ADDED", child("Service", name="e"))], ["d has 2 Services"]),
        ([*WHOLE, ("ADDED", child("Service", name="e", owner="gone"))], ["Service e is nobody's"]),
        ([("ADDED", node(1, LENT, taints=[TAINT]))], ["node n is closed"]),
        ([("ADDED", node(1)), ("MODIFIED", node(2, LENT)), ("MODIFIED", node(3))], []),
        ([("ADDED", node(1)), ("MODIFIED", node(2, LENT)), ("MODIFIED", node(3, SERVES_X)), ("MODIFIED", node(4, SERVES_X | LENT)), ("MODIFIED", node(5))], []),
        ([("ADDED", node(1)), ("MODIFIED", node(2, LENT)), ("MODIFIED", node(3, SERVES_X))], ["node n is not as it was before it was lent"]),
    ],
    ids=["whole", "not ready", "no node", "no idle node", "an idle node", "a child missing", "a child twice", "orphan", "closed", "given back", "lent again before it was given back whole", "given back with a mark"],
)  # fmt: skip
def test_unrest_names_what_is_not_converged(
    tells: Callable[..., Observer], events: list[Event], says: list[str]
) -> None:
    assert tells(events).unrest() == says
