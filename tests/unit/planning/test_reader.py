"""What a condition tells of other namespaces: how many of their pods are in the way, and no name."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from slm_operator.api import names
from slm_operator.api.profile import GpuSpec
from slm_operator.manifests.metadata import is_served_in, serves_value
from slm_operator.planning.actions import EmitEvent, PatchNode
from slm_operator.planning.fleet import shortage
from slm_operator.planning.fleet.node.annotations import Marks, change_text, failures_in
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.planning.profile.gpu import gpu_wait
from slm_operator.planning.views import Assignment, FleetView, ProfileView
from slm_operator.settings import Settings, Tenancy
from slm_operator.watch.records import Key, NodeRecord, PodRecord, Taint

from . import worlds as w

OPEN = Settings(tenancy=Tenancy(names_of_others=True))
WHOLE_GPU = {names.NVIDIA_GPU: 1}
RIVAL = w.demand("rival-model", namespace="rivals", shared_tenancy=True)
SECRET = ("rivals", "rival", "others")
"""What no sentence for namespace team may hold: namespaces of others, and the names in them."""


def training(name: str = "rival-training", node: str = "gpu-1", namespace: str = "rivals") -> PodRecord:
    return PodRecord(meta=w.meta(name, namespace), node=node, phase="Running", gpu_requests=WHOLE_GPU)


def whole_engine(name: str, namespace: str, of: str) -> PodRecord:
    return replace(w.replica(name, of=of, namespace=namespace), gpu_requests=WHOLE_GPU)


def changing(node: NodeRecord, becomes: Marks) -> NodeRecord:
    marks = {names.CHANGE_STARTED_ANNOTATION: w.NOW.isoformat(), names.CHANGING_TO_ANNOTATION: change_text(becomes)}
    return replace(
        node,
        taints=(Taint(key=names.CHANGING_TAINT),),
        meta=replace(node.meta, annotations=marks | {names.FORMER_CONFIG_ANNOTATION: ""}),
    )


def serving(name: str, serves: str) -> NodeRecord:
    labels = {names.CLASS_LABEL: "mps-2", names.SERVES_LABEL: serves, "nvidia.com/device-plugin.config": "slm-mps-2-x"}
    return w.node(name, slice_class=w.MPS_2, labels=labels)


def answer(view: FleetView, settings: Settings = w.SETTINGS, seconds: float = 0) -> Assignment:
    return plan_fleet(view, settings, w.later(seconds)).assignments[w.demand().deployment]


def texts(answer: Assignment) -> Iterator[str]:
    yield from (text for text in (answer.stage, answer.pending_because) if text is not None)


OWN = training("mine", namespace="team")
ANY = w.demand(shared_tenancy=True)
DRAINED = changing(w.node(), Marks("mps-2", "any"))
MIXED = (w.replica("chat-1"), w.replica("rival-1", of="rival-model", namespace="rivals"))
DAEMON = w.daemon("mps-control-daemon", "gpu-1", started="2026-01-01T00:00:10Z")
ORPHANS = tuple(replace(pod, started="2026-01-01T00:00:00Z") for pod in MIXED)
WORLDS: dict[str, tuple[FleetView, str, str]] = {
    "a foreign pod": (
        w.fleet(w.demand(), nodes=(w.node(),), pods=(training(),)),
        "its GPU is held by a pod of another namespace",
        "pod rivals/rival-training",
    ),
    "two of them, and one of the reader's": (
        w.fleet(
            w.demand(), nodes=(w.node(gpus=4),), pods=(training(), training("rival-test", namespace="others"), OWN)
        ),
        "its GPU is held by pod team/mine, 2 pods of other namespaces",
        "pod others/rival-test",
    ),
    "engines with whole GPUs": (
        w.fleet(
            w.demand(),
            w.demand("rival-model", w.WHOLE, 1, "rivals"),
            nodes=(w.node(),),
            pods=(whole_engine("rival-1", "rivals", "rival-model"),),
        ),
        "a pod of another namespace",
        "pod rivals/rival-1",
    ),
    "a deployment of others": (
        w.fleet(
            w.demand(),
            w.demand("rival-model", replicas=2, namespace="rivals"),
            nodes=(serving("gpu-1", "rivals.rival-model"),),
            pods=tuple(w.replica(f"rival-{i}", of="rival-model", namespace="rivals") for i in range(2)),
        ),
        "serves a deployment of another namespace",
        "serves rivals.rival-model",
    ),
    "a node that waits for a foreign pod": (
        w.fleet(ANY, nodes=(DRAINED,), pods=(training(),)),
        "waits for a pod of another namespace to end",
        "waits for pod rivals/rival-training to end",
    ),
    "a node that drains replicas": (
        w.fleet(ANY, RIVAL, nodes=(DRAINED,), pods=MIXED),
        "drains replica team/chat-1, a replica of another namespace",
        "replica rivals/rival-1",
    ),
    "replicas older than their daemon": (
        w.fleet(
            replace(ANY, replicas=1),
            replace(RIVAL, replicas=1),
            nodes=(serving("gpu-1", "any"),),
            pods=ORPHANS,
            daemons=(*w.plugin_pods("gpu-1"), DAEMON),
        ),
        "a replica of another namespace",
        "replica rivals/rival-1",
    ),
}


@pytest.mark.parametrize("case", WORLDS)
def test_others_are_counted_and_not_named_unless_they_may_be(case: str) -> None:
    view, closed, named = WORLDS[case]
    said = " ".join(texts(answer(view)))
    assert closed in said
    assert not [word for word in SECRET if word in said]
    assert named in " ".join(texts(answer(view, OPEN)))


def test_nodes_held_by_others_are_one_line_whatever_the_pods() -> None:
    nodes = tuple(w.node(f"gpu-{i}") for i in range(9))
    view = w.fleet(w.demand(), nodes=nodes, pods=tuple(training(f"rival-{i}", f"gpu-{i}") for i in range(9)))
    made = answer(view)
    assert made.reason == "ForeignPods"
    assert (made.pending_because or "").endswith(
        "node gpu-0, gpu-1, gpu-2 and 6 more: its GPU is held by a pod of another namespace"
    )


def test_those_who_ask_the_same_are_each_shown_their_own() -> None:
    """NB: what is said to all who ask the same is made once: not for another namespace."""
    first, second = w.demand(), w.demand(namespace="rivals")
    view = w.fleet(first, second, w.demand(namespace="bystanders"), nodes=(w.node(),), pods=(training(),))
    made = plan_fleet(view, w.SETTINGS, w.NOW).assignments
    said = {key.namespace: (one.pending_because or "").partition("held by ")[2] for key, one in made.items()}
    assert said == {
        "team": "a pod of another namespace",
        "rivals": "pod rivals/rival-training",
        "bystanders": "a pod of another namespace",
    }


def test_namespaces_with_nothing_to_name_are_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[str | None] = []
    made = shortage._reasons
    monkeypatch.setattr(
        shortage, "_reasons", lambda one, place, reader: answered.append(reader.namespace) or made(one, place, reader)
    )
    many = tuple(w.demand(namespace=f"tenant-{number}") for number in range(100))
    plan_fleet(w.fleet(w.demand(), *many, nodes=(w.node(),), pods=(OWN, training())), w.SETTINGS, w.NOW)
    assert answered == ["team", ""]


def test_what_is_remembered_on_a_node_names_nobody() -> None:
    """Everybody who would have the node sees why it failed before."""
    plan = plan_fleet(w.fleet(ANY, RIVAL, nodes=(DRAINED,), pods=MIXED), w.SETTINGS, w.later(90_000)).plan
    (kept,) = (one.annotations[names.CHANGE_FAILED_ANNOTATION] for one in plan.actions if isinstance(one, PatchNode))
    assert failures_in(kept) == {"mps-2": "2 replicas could not be evicted for a day"}
    assert any(isinstance(one, EmitEvent) and one.kind == "Node" for one in plan.actions)


H100 = GpuSpec.model_validate({"product": "NVIDIA-H100-80GB-HBM3"})
PROFILES: dict[str, tuple[NodeRecord, tuple[PodRecord, ...], str]] = {
    "a foreign pod": (w.node(), (training(),), "has its GPU held by a pod of another namespace"),
    "its own": (w.node(), (OWN,), "has its GPU held by pod team/mine"),
    "slices of others": (serving("gpu-1", "rivals.rival-model"), (), "for a deployment of another namespace"),
    "slices of its own": (serving("gpu-1", "team.chat"), (), "is partitioned into slices for team.chat"),
    "slices for all": (serving("gpu-1", "any"), (), "is partitioned into slices for any deployment"),
    "a change for others": (
        changing(w.node(), Marks("mps-2", "rivals.rival-model")),
        (),
        "is being repartitioned or given back",
    ),
}


@pytest.mark.parametrize("case", PROFILES)
def test_a_profile_is_shown_no_names_of_others(case: str) -> None:
    node, pods, closed = PROFILES[case]
    said = gpu_wait(ProfileView(profile=w.profile(w.deployment()), nodes=(node,), gpu_pods=pods), H100, w.SETTINGS)
    assert closed in said
    assert not [word for word in SECRET if word in said]


@pytest.mark.parametrize(
    ("of", "asked", "own"),
    [
        ("team", "team", True),
        ("team-b", "team", False),
        ("tea", "team", False),
        ("n" * 50, "n" * 50, True),
        ("n" * 51, "n" * 51, True),
        ("n" * 52, "n" * 52, True),
        ("n" * 63, "n" * 63, True),
        ("m" * 63, "n" * 63, False),
    ],
)
@pytest.mark.parametrize("name", ["a", "a" * 10, "a" * 11, "a" * 12, "a" * 253])
def test_a_served_deployment_is_known_by_its_namespace(of: str, asked: str, name: str, *, own: bool) -> None:
    assert is_served_in(serves_value(Key(of, name)), asked) is own
