"""`/scale` and `spec.replicas` on a real API server: whose number it is, while people, autoscalers and git write or leave it.

One operator watches them all. Nodes are none: what is asked is the field, and advice needs a profile only.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import builders as build
from tests.control_plane.gpu_fleet import MODEL, slm_profile
from tests.control_plane.operator_process import OperatorProcess, now, operator, requests_since, wait_until
from tests.gitops.kstatus import kstatus
from tests.testbed.cluster import KubectlError, apply_crds
from tests.testbed.control_plane import ControlPlane

pytestmark = pytest.mark.control_plane
ROOT = Path(__file__).parents[2]
OWN = "slm-operator-replicas"
HAND_BACK = '[{"op": "remove", "path": "/spec/replicas"}]'
Given = dict[str, Any]


class Chat:
    """An SLMDeployment `chat` in a namespace, as its users see it."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane, self.namespace = plane, namespace

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.plane.kubectl(*arguments, "--namespace", self.namespace, stdin=stdin)

    def apply(self, *flags: str, engines: int = 2, **spec: Any) -> None:
        self.kubectl("apply", *flags, "--filename", "-", stdin=manifest(engines, **spec))

    def is_in_sync(self, *flags: str, engines: int = 2) -> bool:
        """Whether `kubectl diff` shows nothing. NB: it asks twice, and shows a status that is written in between."""
        try:
            return self.kubectl("diff", *flags, "--filename", "-", stdin=manifest(engines)) == ""
        except KubectlError:  # which it is for kubectl
            return False

    def get(self) -> Any:
        return json.loads(self.kubectl("get", "slmd/chat", "--output", "json", "--show-managed-fields"))

    def scale(self) -> Any:
        path = f"/apis/slm-operator.io/v1alpha1/namespaces/{self.namespace}/slmdeployments/chat/scale"
        return json.loads(self.plane.kubectl("get", "--raw", path))

    def owners(self) -> set[str]:
        entries = self.get()["metadata"]["managedFields"]
        return {one["manager"] for one in entries if "f:replicas" in one["fieldsV1"].get("f:spec", {})}

    def wait_for(self, replicas: int) -> None:
        wait_until(lambda: self.get()["spec"].get("replicas") == replicas)

    def wait_for_status(self) -> Any:
        """The object once its status speaks of its present generation."""

        def observed() -> Any:
            found = self.get()
            status = found.get("status") or {}
            return found if status.get("observedGeneration") == found["metadata"]["generation"] else None

        return wait_until(observed)


def manifest(engines: int, **spec: Any) -> str:
    wanted = {
        "model": MODEL,
        "profiling": {"policy": "Never", "profileRef": {"name": "measured"}},
        "sharing": {"mode": "TimeSlicing", "enginesPerGpu": engines, "partitioning": "NodeSlices"},
    }
    return json.dumps(build.manifest("SLMDeployment", "chat", wanted | spec))


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    apply_crds(control_plane, ROOT / "crds")
    return control_plane


@pytest.fixture(scope="module")
def running(plane: ControlPlane) -> Iterator[OperatorProcess]:
    with operator(plane) as found:
        found.said("synced")
        yield found
    plane.kubectl("delete", "lease/slm-operator", "--ignore-not-found")


@pytest.fixture
def chat(plane: ControlPlane, running: OperatorProcess, namespace: str) -> Iterator[Chat]:
    """Nothing is applied yet but a profile that was measured."""
    found = Chat(plane, namespace)
    found.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(slm_profile("measured")))
    yield found
    found.kubectl("delete", "slmd,slmp", "--all", "--wait=false")


def test_scale_answers_before_advice_and_follows_it_afterwards(
    plane: ControlPlane, running: OperatorProcess, namespace: str
) -> None:
    chat = Chat(plane, namespace)
    chat.apply("--server-side")
    chat.wait_for(1)  # the smallest pack: nothing is measured
    assert chat.scale()["spec"] == {"replicas": 1}
    assert chat.owners() == {OWN}
    chat.kubectl("apply", "--server-side", "--filename", "-", stdin=json.dumps(slm_profile("measured")))
    chat.wait_for(2)
    chat.apply("--server-side", engines=4)
    chat.wait_for(4)
    assert chat.scale()["spec"] == {"replicas": 4}
    assert kstatus(chat.wait_for_status()) != "Failed"
    chat.kubectl("delete", "slmd,slmp", "--all", "--wait=false")


def test_replicas_field_is_not_written_at_rest(chat: Chat, running: OperatorProcess) -> None:
    chat.apply("--server-side")
    chat.wait_for(2)
    generation = chat.wait_for_status()["metadata"]["generation"]
    since = now()
    chat.apply("--server-side", engines=4)
    chat.wait_for(4)
    found = chat.wait_for_status()
    written = [one for one in requests_since(chat.plane, since) if one == "patch slmdeployments chat"]
    assert found["metadata"]["generation"] == generation + 2, "one is the edit, one the operator's"
    assert found["status"]["advice"]["generation"] == generation + 2
    assert 1 < len(written) < 10, "one is the field, the rest are status"


TAKERS: dict[str, Callable[[Chat], object]] = {
    "kubectl scale": lambda chat: chat.kubectl("scale", "slmd/chat", "--replicas=3"),
    "an autoscaler": lambda chat: chat.kubectl(
        "patch", "slmd/chat", "--subresource=scale", "--type=merge", "--patch", '{"spec": {"replicas": 3}}'
    ),
    "kubectl apply": lambda chat: chat.apply(replicas=3),
    "kubectl edit": lambda chat: chat.kubectl("patch", "slmd/chat", "--type=merge", "-p", '{"spec": {"replicas": 3}}'),
    "an apply on the server's side, as Flux does": lambda chat: chat.apply(
        "--server-side", "--field-manager=kustomize-controller", "--force-conflicts", replicas=3
    ),
    "to zero": lambda chat: chat.kubectl("scale", "slmd/chat", "--replicas=0"),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_another_number_is_kept_until_the_field_is_removed(chat: Chat, taker: str) -> None:
    chat.apply("--server-side" if "server's side" in taker else "--server-side=false")
    chat.wait_for(2)
    TAKERS[taker](chat)
    theirs = chat.get()["spec"]["replicas"]
    assert theirs in {0, 3}
    assert OWN not in chat.owners()
    chat.kubectl("patch", "slmd/chat", "--type=merge", "--patch", '{"spec": {"sharing": {"enginesPerGpu": 4}}}')
    found = chat.wait_for_status()
    assert found["status"]["advice"]["configuration"]["enginesPerGpu"] == 4
    assert found["spec"]["replicas"] == theirs
    chat.kubectl("patch", "slmd/chat", "--type=json", "--patch", HAND_BACK)
    chat.wait_for(4)
    assert chat.owners() == {OWN}


SAME: dict[str, tuple[str, ...]] = {
    "on the server's side it is owned by both": ("--server-side", "--field-manager=kustomize-controller"),
    "on the client's side only the manifest shows it": (),
}


@pytest.mark.parametrize("case", SAME)
def test_applied_replicas_are_the_users_until_removed(chat: Chat, case: str) -> None:
    flags = SAME[case]
    chat.apply(*flags)
    chat.wait_for(2)
    chat.apply(*flags, replicas=2)
    assert OWN in chat.owners(), "or this would be an ordinary other owner"
    chat.kubectl("patch", "slmd/chat", "--type=merge", "--patch", '{"spec": {"sharing": {"enginesPerGpu": 4}}}')
    found = chat.wait_for_status()
    assert found["status"]["advice"]["configuration"]["enginesPerGpu"] == 4
    assert found["spec"]["replicas"] == 2
    chat.apply(*flags, *(["--force-conflicts"] if flags else []), engines=4)
    chat.wait_for(4)
    assert chat.owners() == {OWN}


def test_server_side_apply_of_other_replicas_is_a_conflict(
    chat: Chat,
) -> None:
    chat.apply("--server-side")
    chat.wait_for(2)
    with pytest.raises(KubectlError, match=OWN):
        chat.apply("--server-side", replicas=3)


@pytest.mark.parametrize("flags", [(), ("--server-side",)], ids=["client's side", "server's side"])
def test_a_manifest_without_the_field_stays_in_sync(chat: Chat, flags: tuple[str, ...]) -> None:
    chat.apply(*flags)
    chat.wait_for(2)
    before = chat.wait_for_status()
    wait_until(lambda: chat.is_in_sync(*flags))
    chat.apply(*flags)
    after = chat.get()
    assert (after["metadata"]["generation"], after["spec"]) == (before["metadata"]["generation"], before["spec"])
