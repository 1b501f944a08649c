"""An answer from what was released, with no clone in reach: two lines, timed; and manifests from a URL.

Last of the recorded run: the walk-through has left the cluster as it found it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from slm_core.codec import to_json

from hack.release.artefacts import IMAGE
from tests import builders as build
from tests.e2e.light import light, wait_until_ready
from tests.testbed.gotools import binary

from .place import VERSION, run, running_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.testbed.stage import Stage

    from .place import Place

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(5400)]
TEAM = "team"


def test_two_lines_bring_an_answer_without_the_clone(
    place: Place, stage: Stage, tmp_path: Path, figures: dict[str, object]
) -> None:
    """The cluster has a GPU node that is opted in, and a model."""
    place.release(VERSION)
    stage.opt_in()
    stage.cluster.kubectl("create", "namespace", TEAM)
    stage.provide_model(TEAM)
    chat = write_chat(tmp_path / "chat.json")
    with place.away():
        began = time.monotonic()
        helm = [str(binary("helm")), f"--kubeconfig={stage.cluster.kubeconfig}", "install", "slm-operator"]
        helm += [f"oci://{place.registry}/charts/slm-operator", "--version", VERSION, "--namespace", "slm-system"]
        helm += ["--create-namespace", "--verify", "--keyring", str(place.keys / "pubring.gpg"), "--wait"]
        run(*helm, "--set", "config.profiling.device=Cpu", cwd=tmp_path)
        available = time.monotonic() - began
        stage.cluster.kubectl("apply", "--namespace", TEAM, "--filename", str(chat))
        wait_until_ready(stage, TEAM, "chat", timeout_s=600)
        answer = ask(stage, "chat")
        answered = time.monotonic() - began
    assert running_image(stage.cluster) == f"{place.registry}/{IMAGE.repository}@{place.tags()[IMAGE.name]}"
    figures["twoLines"] = {
        "operatorAvailableSeconds": round(available),
        "answerSeconds": round(answered),
        "answer": answer,
    }


def test_plain_manifests_are_applied_from_a_url(place: Place, stage: Stage) -> None:
    place.release(VERSION)
    url = f"{place.releases}/v{VERSION}/install.yaml"
    said = stage.cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", url)
    assert "deployment.apps/slm-operator serverside-applied (server dry run)" in said


def write_chat(path: Path) -> Path:
    """One file to apply: measurements that were made elsewhere, and a deployment of the light engine by them."""
    measured = {"model": {"uri": "pvc://models/opt-tiny"}, "measurements": to_json(build.imported())}
    profile = build.manifest("SLMProfile", "imported", measured)
    chat = light("chat", profiling={"profileRef": {"name": "imported"}}, slo={"itl": {"maxMs": 12}})
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [profile, chat]}))
    return path


def ask(stage: Stage, name: str) -> str:
    """What it answers by its Service."""
    address = stage.cluster.kubectl("get", "service", name, "--namespace", TEAM, "--output=jsonpath={.spec.clusterIP}")
    body = json.dumps({"model": name, "prompt": "Once upon a time", "max_tokens": 8})
    asked = ("curl", "--silent", "--fail", "--header", "Content-Type: application/json", "--data", body)
    said = json.loads(stage.cluster.exec(*asked, f"http://{address.strip()}/v1/completions"))
    return str(said["choices"][0]["text"])
