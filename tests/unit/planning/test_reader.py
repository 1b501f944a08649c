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

from tests import builders as build

OPEN = Settings(tenancy=Tenancy(names_of_others=True))
WHOLE_GPU = {names.NVIDIA_GPU: 1}
RIVAL = build.demand("rival-model", namespace="rivals", shared_tenancy=True)
SECRET = ("rivals", "rival", "others")
"""What no sentence for namespace team may hold: namespaces of others, and the names in them."""


def training(name: str = "rival-training", node: str = "gpu-1", namespace: str = "rivals") -> PodRecord:
    return build.foreign(name, node, namespace)


def whole_engine(name: str, namespace: str, of: str) -> PodRecord:
    return build.replica(name, of=of, namespace=namespace, resource=names.NVIDIA_GPU)


def changing(node: NodeRecord, becomes: Marks) -> NodeRecord:
    marks = {
        names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(),
        names.CHANGING_TO_ANNOTATION: change_text(becomes, 1),
    }
    return replace(
        node,
        taints=(Taint(key=names.CHANGING_TAINT),),
        meta=replace(node.meta, annotations=marks | {names.FORMER_CONFIG_ANNOTATION: ""}),
    )


def answer(view: FleetView, settings: Settings = build.SETTINGS, seconds: float = 0) -> Assignment:
    return plan_fleet(view, settings, build.later(seconds)).assignments[build.demand().deployment]


def texts(answer: Assignment) -> Iterator[str]:
    yield from (text for text in (answer.stage, answer.pending_because) if text is not None)


OWN = training("mine", namespace="team")
ANY = build.demand(shared_tenancy=True)
DRAINED = changing(build.node(), Marks("mps-2", "any"))
MIXED = (build.replica("chat-1"), build.replica("rival-1", of="rival-model", namespace="rivals"))
DAEMON = build.daemon("mps-control-daemon", "gpu-1", started="2026-01-01T00:00:10Z")
ORPHANS = tuple(replace(pod, started="2026-01-01T00:00:00Z") for pod in MIXED)
WORLDS: dict[str, tuple[FleetView, str, str]] = {
    "a foreign pod": (
        build.fleet_view(build.demand(), nodes=(build.node(),), pods=(training(),)),
        "its GPU is held by a pod of another namespace",
        "pod rivals/rival-training",
    ),
    "two of them, and one of the reader's": (
        build.fleet_view(
            build.demand(),
            nodes=(build.node(gpus=4),),
            pods=(training(), training("rival-test", namespace="others"), OWN),
        ),
        "its GPU is held by pod team/mine, 2 pods of other namespaces",
        "pod others/rival-test",
    ),
    "engines with whole GPUs": (
        build.fleet_view(
            build.demand(),
            build.demand("rival-model", build.WHOLE, 1, "rivals"),
            nodes=(build.node(),),
            pods=(whole_engine("rival-1", "rivals", "rival-model"),),
        ),
        "a pod of another namespace",
        "pod rivals/rival-1",
    ),
    "a deployment of others": (
        build.fleet_view(
            build.demand(),
            build.demand("rival-model", replicas=2, namespace="rivals"),
            nodes=(build.partitioned_node(serves="rivals.rival-model"),),
            pods=tuple(build.replica(f"rival-{i}", of="rival-model", namespace="rivals") for i in range(2)),
        ),
        "serves a deployment of another namespace",
        "serves rivals.rival-model",
    ),
    "a node that waits for a foreign pod": (
        build.fleet_view(ANY, nodes=(DRAINED,), pods=(training(),)),
        "waits for a pod of another namespace to end",
        "waits for pod rivals/rival-training to end",
    ),
    "a node that drains replicas": (
        build.fleet_view(ANY, RIVAL, nodes=(DRAINED,), pods=MIXED),
        "drains replica team/chat-1, a replica of another namespace",
        "replica rivals/rival-1",
    ),
    "replicas older than their daemon": (
        build.fleet_view(
            replace(ANY, replicas=1),
            replace(RIVAL, replicas=1),
            nodes=(build.partitioned_node(serves="any"),),
            pods=ORPHANS,
            daemons=(*build.plugin_pods("gpu-1"), DAEMON),
        ),
        "a replica of another namespace",
        "replica rivals/rival-1",
    ),
}


@pytest.mark.parametrize("case", WORLDS)
def test_others_are_counted_and_named_only_if_allowed(case: str) -> None:
    view, closed, named = WORLDS[case]
    said = " ".join(texts(answer(view)))
    assert closed in said
    assert not [word for word in SECRET if word in said]
    assert named in " ".join(texts(answer(view, OPEN)))


def test_nodes_held_by_others_are_one_line_whatever_the_pods() -> None:
    nodes = tuple(build.node(f"gpu-{i}") for i in range(9))
    view = build.fleet_view(
        build.demand(), nodes=nodes, pods=tuple(training(f"rival-{i}", f"gpu-{i}") for i in range(9))
    )
    made = answer(view)
    assert made.reason == "ForeignPods"
    assert (made.pending_because or "").endswith(
        "node gpu-0, gpu-1, gpu-2 and 6 more: its GPU is held by a pod of another namespace"
    )


def test_readers_of_one_question_see_only_their_own_names() -> None:
    """NB: what is said to all who ask the same is made once: not for another namespace."""
    first, second = build.demand(), build.demand(namespace="rivals")
    view = build.fleet_view(
        first, second, build.demand(namespace="bystanders"), nodes=(build.node(),), pods=(training(),)
    )
    made = plan_fleet(view, build.SETTINGS, build.NOW).assignments
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
    many = tuple(build.demand(namespace=f"tenant-{number}") for number in range(100))
    plan_fleet(
        build.fleet_view(build.demand(), *many, nodes=(build.node(),), pods=(OWN, training())),
        build.SETTINGS,
        build.NOW,
    )
    assert answered == ["team", ""]


def test_node_annotations_name_no_tenant() -> None:
    """Everybody who would have the node sees why it failed before."""
    plan = plan_fleet(
        build.fleet_view(ANY, RIVAL, nodes=(DRAINED,), pods=MIXED), build.SETTINGS, build.later(90_000)
    ).plan
    (kept,) = (one.annotations[names.CHANGE_FAILED_ANNOTATION] for one in plan.actions if isinstance(one, PatchNode))
    assert failures_in(kept) == {"mps-2": "2 replicas could not be evicted for a day"}
    assert any(isinstance(one, EmitEvent) and one.kind == "Node" for one in plan.actions)


H100 = GpuSpec.model_validate({"product": "NVIDIA-H100-80GB-HBM3"})
PROFILES: dict[str, tuple[NodeRecord, tuple[PodRecord, ...], str]] = {
    "a foreign pod": (build.node(), (training(),), "has its GPU held by a pod of another namespace"),
    "its own": (build.node(), (OWN,), "has its GPU held by pod team/mine"),
    "slices of others": (
        build.partitioned_node(serves="rivals.rival-model"),
        (),
        "for a deployment of another namespace",
    ),
    "slices of its own": (build.partitioned_node(serves="team.chat"), (), "is partitioned into slices for team.chat"),
    "slices for all": (build.partitioned_node(serves="any"), (), "is partitioned into slices for any deployment"),
    "a change for others": (
        changing(build.node(), Marks("mps-2", "rivals.rival-model")),
        (),
        "is being repartitioned or given back",
    ),
}


@pytest.mark.parametrize("case", PROFILES)
def test_a_profile_is_shown_no_names_of_others(case: str) -> None:
    node, pods, closed = PROFILES[case]
    said = gpu_wait(
        ProfileView(profile=build.profile(build.deployment()), nodes=(node,), gpu_pods=pods), H100, build.SETTINGS
    )
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
