from typing import Any

import pytest
from slm_operator.api import names
from slm_operator.kube.errors import Blocked, Conflict, Forbidden, NotFound, Refused, Unavailable
from slm_operator.planning.actions import (
    Apply,
    Delete,
    Evict,
    PatchConfig,
    PatchNode,
    Plan,
    ScaleWorkload,
    SetReplicas,
    WriteStatus,
)
from slm_operator.planning.views import Refusal
from slm_operator.reconcile.execute import BLOCKED_SECONDS, Outcome
from slm_operator.reconcile.pending_writes import CONFIRM_SECONDS, Ref
from slm_operator.watch.pods import pod
from slm_operator.watch.records import Key

from tests.builders import raw_gpu_node, raw_meta, raw_pod
from tests.unit.reconcile.bench import KEY, WORK, Bench

OWNER = {"kind": names.DEPLOYMENT_KIND, "name": "d", "uid": "uid-d", "controller": True}


def service(port: int = 80) -> dict[str, Any]:
    labels = {names.DEPLOYMENT_LABEL: "d"}
    metadata = {"name": "d", "namespace": "team", "labels": labels, "ownerReferences": [OWNER]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": port}]}}


async def apply(bench: Bench, manifest: dict[str, Any] | None = None) -> Outcome:
    return await bench.executor.execute(WORK, Plan(actions=(Apply(manifest=manifest or service(), because="b"),)))


async def write_status(bench: Bench, status: dict[str, Any]) -> Outcome:
    action = WriteStatus(
        api_version=names.API_VERSION, kind=names.DEPLOYMENT_KIND, key=KEY, uid="uid-d", status=status, because="b"
    )
    return await bench.executor.execute(WORK, Plan(actions=(action,)))


async def test_an_object_not_seen_yet_is_applied_without_force() -> None:
    bench = Bench()
    assert (await apply(bench)).writes == 1
    assert bench.server.asked == [("apply", "Service d")]


async def test_object_of_somebody_else_is_refused_not_taken_over() -> None:
    bench = Bench()
    bench.server.objects["Service", "d"] = {"metadata": {"name": "d"}}
    outcome = await apply(bench)
    assert outcome.refused is not None
    assert outcome.refused.because.startswith("Apply Service team/d: the name is taken by an object that is not ours")


async def test_the_same_manifest_is_not_applied_again() -> None:
    bench = Bench()
    await apply(bench)
    bench.show("Service", "d")
    assert (await apply(bench)).writes == 0
    assert len(bench.server.asked) == 1


async def test_unchanged_manifest_is_not_applied_by_next_process() -> None:
    bench = Bench()
    await apply(bench)
    again = bench.restart()
    await apply(again)
    assert len(bench.server.asked) == 1


async def test_applied_manifest_of_a_gone_object_is_forgotten() -> None:
    bench = Bench()
    await apply(bench)
    bench.show("Service", "d")
    assert bench.ledger.applied
    bench.world.see("Service", "DELETED", bench.server.objects["Service", "d"])
    assert not bench.ledger.applied


async def test_a_changed_manifest_is_applied_with_force() -> None:
    bench = Bench()
    await apply(bench)
    bench.show("Service", "d")
    assert (await apply(bench, service(8080))).writes == 1
    assert bench.server.asked[-1] == ("apply --force", "Service d")


async def test_fields_that_somebody_took_are_taken_back() -> None:
    bench = Bench()
    await apply(bench)
    bench.show("Service", "d")
    bench.server.taken_by_another("Service", "d")
    bench.show("Service", "d")
    assert (await apply(bench)).writes == 1


async def test_edit_made_without_the_operator_is_applied_once() -> None:
    bench = Bench()
    await apply(bench)
    bench.server.objects["Service", "d"]["metadata"]["managedFields"].append(
        {"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-02T00:00:00Z", "fieldsV1": {"f:spec": {}}}
    )
    again = bench.restart()
    await apply(again)
    assert len(bench.server.asked) == 2
    again.show("Service", "d")
    await apply(again)
    assert len(bench.server.asked) == 2


async def test_an_object_that_is_going_is_left_alone() -> None:
    bench = Bench()
    await apply(bench)
    bench.server.objects["Service", "d"]["metadata"] |= {"deletionTimestamp": "t", "resourceVersion": "999"}
    bench.show("Service", "d")
    await apply(bench, service(8080))
    assert len(bench.server.asked) == 1


def route(host: str = "a") -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "d", "namespace": "team", "ownerReferences": [OWNER]},
        "spec": {"hostnames": [host]},
    }


REMOVED = Delete(
    api_version="gateway.networking.k8s.io/v1", kind="HTTPRoute", key=KEY, uid=None, because="b", controller="uid-d"
)


FORGED = {
    "annotations": {names.APPLIED_ANNOTATION: "forged"},
    "labels": {names.DEPLOYMENT_LABEL: "d"},
    "managedFields": [{"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
}


@pytest.mark.parametrize("owners", [[], [OWNER | {"uid": "another"}]], ids=["nobody's", "another's"])
async def test_our_marks_without_our_owner_are_no_reason_to_force(owners: list[Any]) -> None:
    bench = Bench()
    await apply(bench)
    raw = bench.server.objects["Service", "d"]
    raw["metadata"] |= FORGED | {"ownerReferences": owners}
    again = bench.restart()
    assert (await apply(again)).refused is not None
    assert again.server.asked[-1] == ("apply", "Service d")


async def test_unwatched_kind_is_read_and_applied_once_a_manifest() -> None:
    bench = Bench()
    assert [(await apply(bench, route())).writes for _ in range(2)] == [1, 0]
    assert bench.server.asked == [("get", "HTTPRoute d"), ("apply", "HTTPRoute d")]
    await apply(bench, route("b"))
    assert bench.server.asked[2:] == [("get", "HTTPRoute d"), ("apply --force", "HTTPRoute d")]
    again = bench.restart()
    assert (await apply(again, route("b"))).writes == 0
    assert bench.server.asked[4:] == [("get", "HTTPRoute d")]


async def test_only_own_objects_of_unwatched_kinds_are_deleted() -> None:
    bench = Bench()
    await apply(bench, route())
    assert (await bench.executor.execute(WORK, Plan(actions=(REMOVED,)))).writes == 1
    assert bench.server.asked[-1] == ("delete", "HTTPRoute d")
    del bench.server.objects["HTTPRoute", "d"]
    assert (await bench.executor.execute(WORK, Plan(actions=(REMOVED,)))).writes == 0
    assert (await apply(bench, route())).writes == 1
    for others in ({}, FORGED, FORGED | {"ownerReferences": [OWNER | {"controller": False}]}):
        bench.server.objects["HTTPRoute", "d"] = {"metadata": {"name": "d", "uid": "u"} | others}
        assert (await bench.executor.execute(WORK, Plan(actions=(REMOVED,)))).writes == 0


async def test_kind_that_the_cluster_lacks_has_its_own_error() -> None:
    bench = Bench()
    bench.server.refuse = NotFound("404 page not found", 404)
    because = "Apply HTTPRoute team/d: 404 page not found"
    assert (await apply(bench, route())).refused == Refusal(kind="HTTPRoute", because=because, unserved=True)


async def test_a_kind_that_nobody_knows_is_refused_with_its_name() -> None:
    bench = Bench()
    action = Delete(api_version="v9", kind="Odd", key=KEY, uid="u", because="b")
    outcome = await bench.executor.execute(WORK, Plan(actions=(action,)))
    assert outcome.refused is not None
    assert "v9 Odd" in outcome.refused.because


CONDITION = {"type": "Ready", "status": "True", "reason": "R", "message": "m"}


async def test_a_status_like_the_one_seen_is_not_written() -> None:
    bench = Bench()
    bench.deployment({"phase": "Ready", "conditions": [CONDITION], "placement": []})
    await write_status(bench, {"phase": "Ready", "conditions": [CONDITION], "url": None})
    assert bench.server.asked == []


async def test_a_status_that_differs_is_written() -> None:
    bench = Bench()
    bench.deployment({"phase": "Ready", "conditions": [CONDITION]})
    await write_status(bench, {"phase": "Ready", "conditions": [CONDITION | {"message": "other"}]})
    assert bench.server.asked == [("apply status", "SLMDeployment d")]


async def test_the_status_of_a_namesake_is_not_written() -> None:
    bench = Bench()
    bench.deployment()
    action = WriteStatus(
        api_version=names.API_VERSION,
        kind=names.DEPLOYMENT_KIND,
        key=KEY,
        uid="its predecessor's",
        status={"phase": "Ready"},
        because="b",
    )
    await bench.executor.execute(WORK, Plan(actions=(action,)))
    assert bench.server.asked == []


async def test_a_key_waits_until_the_cache_shows_its_write() -> None:
    bench = Bench()
    await apply(bench)
    assert bench.ledger.unconfirmed(WORK) == CONFIRM_SECONDS
    bench.show("Service", "d")
    assert bench.free == [WORK]
    assert bench.ledger.unconfirmed(WORK) is None


async def test_key_waits_for_its_write_only_so_long() -> None:
    bench = Bench()
    await apply(bench)
    bench.clock.seconds = CONFIRM_SECONDS
    assert bench.ledger.unconfirmed(WORK) is None


async def test_write_seen_by_the_watch_first_is_not_waited_for() -> None:
    bench = Bench()
    await apply(bench)
    bench.show("Service", "d")
    bench.ledger.wrote(WORK, next(iter(bench.ledger.applied)), "1", "uid-d")
    assert bench.ledger.unconfirmed(WORK) is None


def test_write_behind_a_namesake_still_shown_is_awaited() -> None:
    bench = Bench()
    former, new = (
        {**service(), "metadata": raw_meta("d", uid=uid, version=version)} for uid, version in (("a", 5), ("b", 9))
    )
    bench.world.see("Service", "ADDED", former)
    bench.ledger.wrote(WORK, Ref("Service", KEY), "9", "b")
    assert bench.ledger.unconfirmed(WORK) is not None
    bench.world.see("Service", "DELETED", former)
    assert bench.ledger.unconfirmed(WORK) is not None
    bench.world.see("Service", "ADDED", new)
    assert bench.ledger.unconfirmed(WORK) is None


async def test_own_status_is_an_echo_unless_the_spec_changed_too() -> None:
    bench = Bench()
    raw = {"metadata": {"name": "d", "namespace": "team", "uid": "uid-d", "resourceVersion": "1", "generation": 1}}
    bench.server.objects[names.DEPLOYMENT_KIND, "d"] = raw
    bench.show(names.DEPLOYMENT_KIND, "d")
    await write_status(bench, {"phase": "Ready"})
    bench.show(names.DEPLOYMENT_KIND, "d")
    assert bench.echoes == [WORK]
    await write_status(bench, {"phase": "Degraded"})
    bench.server.objects[names.DEPLOYMENT_KIND, "d"]["metadata"]["generation"] = 2
    bench.show(names.DEPLOYMENT_KIND, "d")
    assert bench.echoes == [WORK]


SCALED = Plan(
    actions=(SetReplicas(deployment=KEY, uid="uid-d", resource_version="7", replicas=2, because="one full pack"),)
)


async def test_replicas_are_applied_by_their_own_field_manager() -> None:
    bench = Bench()
    assert (await bench.executor.execute(WORK, SCALED)).writes == 1
    assert bench.server.asked == [("apply", "SLMDeployment d")]
    sent = bench.server.applied_by["slm-operator-replicas"]
    assert sent["spec"] == {"replicas": 2}
    assert sent["metadata"] == {"name": "d", "namespace": "team", "uid": "uid-d", "resourceVersion": "7"}
    assert bench.ledger.unconfirmed(WORK) is not None
    bench.show(names.DEPLOYMENT_KIND, "d")
    assert bench.free == [WORK]
    assert bench.echoes == [], "the spec is another now: it is looked at again"


async def test_replicas_that_somebody_has_set_meanwhile_end_the_pass() -> None:
    bench = Bench()
    bench.server.refuse = Conflict("the object has been modified", 409)
    with pytest.raises(Conflict):
        await bench.executor.execute(WORK, SCALED)


async def test_replicas_of_what_is_gone_are_nobodys() -> None:
    bench = Bench()
    bench.server.refuse = NotFound("gone", 404)
    assert (await bench.executor.execute(WORK, SCALED)).writes == 0


@pytest.mark.parametrize("error", [Forbidden("no right", 403), Refused("a policy", 403)])
async def test_refused_replicas_are_a_refusal_of_their_own_kind(error: Exception) -> None:
    bench = Bench()
    bench.server.refuse = error  # type: ignore[assignment]
    outcome = await bench.executor.execute(WORK, SCALED)
    assert outcome.refused is not None
    assert outcome.refused.kind == names.DEPLOYMENT_KIND
    assert outcome.refused.because.startswith("SetReplicas team/d: ")


SCALED_ALONE = Plan(
    actions=(ScaleWorkload(workload=KEY, resource_version="7", replicas=5, because="5 replica(s) are wanted"),)
)


async def test_a_deployment_is_scaled_in_one_field_as_it_was_seen() -> None:
    bench, sent = Bench(), []

    async def merge_patch(resource: Any, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        sent.append((resource.kind, namespace, name, patch))
        return {"metadata": {"resourceVersion": "8", "uid": "u"}}

    bench.server.merge_patch = merge_patch  # type: ignore[method-assign]
    assert (await bench.executor.execute(WORK, SCALED_ALONE)).writes == 1
    patch = {"metadata": {"resourceVersion": "7"}, "spec": {"replicas": 5}}
    assert sent == [("Deployment", "team", "d", patch)]


async def test_a_scaling_that_is_refused_says_which_deployment() -> None:
    bench = Bench()
    bench.server.refuse = Refused("a policy", 403)
    outcome = await bench.executor.execute(WORK, SCALED_ALONE)
    assert outcome.refused is not None
    assert outcome.refused.because.startswith("Scale Deployment team/d: ")


async def test_a_deployment_that_is_gone_is_not_scaled() -> None:
    bench = Bench()
    bench.server.refuse = NotFound("gone", 404)
    assert (await bench.executor.execute(WORK, SCALED_ALONE)).writes == 0


async def test_an_evicted_pod_is_waited_for_until_it_goes() -> None:
    bench = Bench()
    record = pod(raw_pod("p"))
    assert record is not None
    bench.caches.pods.put(record)
    action = Evict(pod=Key("team", "p"), uid="uid-p", because="b")
    await bench.executor.execute(WORK, Plan(actions=(action,)))
    assert bench.ledger.unconfirmed(WORK) is not None
    going = raw_pod("p", version=2)
    going["metadata"]["deletionTimestamp"] = "t"
    bench.world.see("Pod", "MODIFIED", going)
    assert bench.ledger.unconfirmed(WORK) is None
    await bench.executor.execute(WORK, Plan(actions=(action,)))
    assert bench.server.asked == [("evict", "Pod p")]


async def test_blocked_eviction_is_retried_later_and_the_plan_goes_on() -> None:
    bench = Bench()
    bench.server.refuse = Blocked("would violate the pod's disruption budget", 429)
    evictions = tuple(Evict(pod=Key("team", name), uid="u", because="b") for name in "pq")
    outcome = await bench.executor.execute(WORK, Plan(actions=evictions))
    assert (outcome.writes, outcome.refused, outcome.look_again_seconds) == (0, None, BLOCKED_SECONDS)
    assert len(bench.server.asked) == 2


@pytest.mark.parametrize(
    "error", [Refused("exceeded quota", 403), Forbidden("cannot create", 403), NotFound("no ns", 404)]
)
async def test_a_refusal_is_reported_and_the_plan_goes_on(error: Exception) -> None:
    bench = Bench()
    bench.deployment()
    assert isinstance(error, Refused | Forbidden | NotFound)
    bench.server.refuse = error
    plan = Plan(actions=(Apply(manifest=service(), because="b"), Apply(manifest=service(81), because="b")))
    outcome = await bench.executor.execute(WORK, plan)
    assert outcome.refused == Refusal(
        kind="Service", because=f"Apply Service team/d: {error.message}", unserved=isinstance(error, NotFound)
    )
    assert len(bench.server.asked) == 2


@pytest.mark.parametrize("error", [Unavailable("down"), Conflict("modified", 409)])
async def test_action_that_cannot_be_done_now_ends_the_plan(error: Exception) -> None:
    bench = Bench()
    bench.server.refuse = error  # type: ignore[assignment]
    patches = tuple(PatchNode(node=name, resource_version="1", labels={"a": "b"}, because="b") for name in "nm")
    with pytest.raises(type(error)):
        await bench.executor.execute(WORK, Plan(actions=patches))
    assert len(bench.server.asked) == 1


NODES: dict[str, tuple[dict[str, Any], bool]] = {
    "closed": ({"spec": {"taints": [{"key": names.CHANGING_TAINT, "effect": "NoSchedule"}]}}, True),
    "open for its daemon": ({"annotations": {names.CHANGE_STARTED_ANNOTATION: "2026-01-01T00:00:00Z"}}, True),
    "open again": ({}, False),
}


@pytest.mark.parametrize("case", NODES)
async def test_replica_is_evicted_only_while_its_node_changes(case: str) -> None:
    bench = Bench()
    shown, changes = NODES[case]
    bench.server.objects["Node", "n"] = raw_gpu_node("n", **shown)
    eviction = Evict(pod=Key("team", "p"), uid="u", changing_node="n", because="b")
    outcome = await bench.executor.execute(WORK, Plan(actions=(eviction,)))
    assert (outcome.writes, outcome.look_again_seconds) == ((1, None) if changes else (0, BLOCKED_SECONDS))
    assert (("evict", "Pod p") in bench.server.asked) == changes


SWITCH = PatchNode(node="n", resource_version="1", labels={"a": "b"}, only_if_free=True, because="b")


@pytest.mark.parametrize(
    "there",
    [
        raw_pod("stranger", "others", node="n", status={"phase": "Pending"}),
        raw_pod("slice", "others", node="n", resource=names.NVIDIA_SHARED_GPU),
    ],
    ids=lambda raw: raw["metadata"]["name"],
)
async def test_node_is_not_switched_under_a_pod_no_watch_told_of(there: dict[str, Any]) -> None:
    bench = Bench()
    bench.server.objects["Pod", there["metadata"]["name"]] = there
    other = PatchNode(node="m", resource_version="1", labels={"a": "b"}, because="b")
    outcome = await bench.executor.execute(WORK, Plan(actions=(SWITCH, other)))
    assert outcome == Outcome(writes=1, look_again_seconds=BLOCKED_SECONDS)
    assert bench.server.asked == [("list", "Pod spec.nodeName=n"), ("patch", "Node m")]


@pytest.mark.parametrize(
    "there",
    [
        raw_pod("without-devices", node="n", gpus=0),
        raw_pod("ended", node="n", status={"phase": "Succeeded"}),
        raw_pod("failed", node="n", status={"phase": "Failed"}),
    ],
    ids=lambda raw: raw["metadata"]["name"],
)
async def test_node_is_switched_beside_pods_that_hold_nothing(there: dict[str, Any]) -> None:
    bench = Bench()
    bench.server.objects["Pod", there["metadata"]["name"]] = there
    assert (await bench.executor.execute(WORK, Plan(actions=(SWITCH,)))).writes == 1


@pytest.mark.parametrize("error", [NotFound("gone", 404), Conflict("uid differs", 409)])
async def test_deleting_what_is_gone_is_no_error(error: Exception) -> None:
    bench = Bench()
    bench.server.refuse = error  # type: ignore[assignment]
    action = Delete(api_version="v1", kind="Service", key=KEY, uid="u", because="b")
    assert (await bench.executor.execute(WORK, Plan(actions=(action,)))).writes == 0


async def test_config_map_is_patched_at_its_planned_version() -> None:
    bench = Bench()
    sent: list[dict[str, Any]] = []

    async def merge_patch(resource: Any, namespace: str, name: str, patch: dict[str, Any]) -> dict[str, Any]:
        sent.append(patch)
        return {"metadata": {"resourceVersion": "2", "uid": "u"}}

    bench.server.merge_patch = merge_patch  # type: ignore[method-assign]
    action = PatchConfig(
        config_map=KEY,
        resource_version="1",
        add={"slm-x": "y"},
        remove=("slm-z",),
        annotations={"a": None},
        because="b",
    )
    await bench.executor.execute(WORK, Plan(actions=(action,)))
    assert sent == [
        {"metadata": {"resourceVersion": "1", "annotations": {"a": None}}, "data": {"slm-x": "y", "slm-z": None}}
    ]


def reported(message: str, holds: str = "False", **more: Any) -> dict[str, Any]:
    condition = {"type": "Allocated", "status": holds, "reason": "NodeChanging", "message": message}
    return {"phase": "Placing", "conditions": [condition], **more}


@pytest.mark.parametrize(
    ("status", "is_written"),
    [
        pytest.param(reported("node n is empty"), False, id="other words"),
        pytest.param(reported("node n is empty", holds="True"), True, id="a condition"),
        pytest.param(reported("node n is drained", replicas=1), True, id="a count"),
        pytest.param(reported("node n is drained") | {"phase": "Starting"}, True, id="the phase"),
        pytest.param(reported("node n is drained", observedGeneration=2), True, id="the generation"),
    ],
)
async def test_status_following_closely_waits_if_only_words_changed(
    *, status: dict[str, Any], is_written: bool
) -> None:
    bench = Bench()
    bench.deployment()
    await write_status(bench, reported("node n is drained"))
    bench.deployment(reported("node n is drained"), version=1000)
    bench.clock.seconds = 0.4
    outcome = await write_status(bench, status)
    assert (outcome.writes == 1) == is_written
    assert outcome.look_again_seconds == (None if is_written else pytest.approx(0.6))


async def test_message_change_is_written_after_its_wait() -> None:
    bench = Bench()
    bench.deployment()
    await write_status(bench, reported("node n is drained"))
    bench.deployment(reported("node n is drained"), version=1000)
    bench.clock.seconds = 1.0
    assert (await write_status(bench, reported("node n is empty"))).writes == 1
