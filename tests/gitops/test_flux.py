"""The guide's Flux objects, carried out by Flux itself: it installs, waits for health, names who stalls, and prunes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.control_plane.gpu_fleet import add_gpu_nodes, install, is_ready, slm_deployment, slm_profile
from tests.control_plane.operator_process import operator, wait_until
from tests.docs.pages import ROOT, yaml_objects
from tests.gitops.flux import Flux, flux
from tests.testbed.control_plane import ControlPlane, control_plane

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.control_plane
TEAM = "team-a"
INSTALL = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "config/default").glob("*.yaml")}
GUIDE = [block for block in yaml_objects(ROOT / "docs/how-to/gitops.md") if block.get("kind") == "Kustomization"]


def in_git(*objects: dict[str, Any]) -> dict[str, str]:
    """The repository of the guide: the operator's plain manifests, and a team's models."""
    placed = [one | {"metadata": one["metadata"] | {"namespace": TEAM}} for one in objects]
    return INSTALL | {"models/models.yaml": yaml.safe_dump_all(placed)}


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane of its own: what Flux prunes would be missed by others."""
    with control_plane() as plane:
        install(plane)
        plane.kubectl("create", "namespace", TEAM)
        add_gpu_nodes(plane, 1, gpus=2)
        yield plane


@pytest.fixture(scope="module")
def gitops(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flux]:
    (repository,) = {block["spec"]["sourceRef"]["name"] for block in GUIDE}
    with flux(plane, tmp_path_factory.mktemp("served"), repository) as running:
        yield running


def deployment(plane: ControlPlane, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(plane.kubectl("get", f"slmd/{name}", "-n", TEAM, "-o", "json"))
    return found


def exists(plane: ControlPlane, what: str) -> bool:
    return bool(plane.kubectl("get", what, "-n", TEAM, "--ignore-not-found"))


def test_from_git_to_ready_and_out_again(plane: ControlPlane, gitops: Flux) -> None:
    chat, profile = slm_deployment("chat", "opt"), slm_profile("opt")
    del chat["spec"]["replicas"]  # so the operator keeps a number in the field, and git does not name it
    first = gitops.commit(in_git(profile, chat))
    for block in GUIDE:
        plane.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(block))

    # The operator is not there yet: nobody has looked at the deployment, so it must not pass for healthy.
    wait_until(lambda: gitops.ready("slm-operator").get("status") == "True")
    wait_until(lambda: exists(plane, "slmd/chat"))
    assert gitops.ready("models")["status"] == "Unknown"
    with operator(plane):
        # NB: Flux writes its conditions and the rest of its status in two requests: Ready comes before the revision.
        healthy = wait_until(lambda: (said := gitops.ready("models"))["revision"] == first and said)
        assert healthy["status"] == "True"
        assert is_ready(deployment(plane, "chat"))
        assert deployment(plane, "chat")["spec"]["replicas"] == 1

        # A second pass of Flux finds nothing to change, and the operator has nothing to change back.
        before = deployment(plane, "chat")
        token = gitops.reconcile("models")
        wait_until(lambda: gitops.reconciled("models") == token)
        after = deployment(plane, "chat")
        assert (after["metadata"]["generation"], after["spec"]) == (before["metadata"]["generation"], before["spec"])

        # One that waits for somebody ends the wait at once, by name. Its own condition has the reason and the remedy.
        gitops.commit(in_git(profile, chat, slm_deployment("lost", "not-in-git")))
        failed = wait_until(lambda: (said := gitops.ready("models"))["reason"] == "HealthCheckFailed" and said)
        assert failed["status"] == "False"
        assert f"SLMDeployment/{TEAM}/lost status: 'Failed'" in failed["message"]
        said = {one["type"]: one for one in deployment(plane, "lost")["status"]["conditions"]}
        assert said["Stalled"]["reason"] == "ProfileNotFound"
        assert is_ready(deployment(plane, "chat"))

        # What is no longer in git goes, with everything that the operator made for it.
        last = gitops.commit(in_git(profile))
        wait_until(lambda: gitops.ready("models")["revision"] == last)
        wait_until(lambda: not exists(plane, "slmd,deployments,services,pods"))
        assert exists(plane, "slmp/opt")
