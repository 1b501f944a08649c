"""An install from a mirror that wants credentials, on a node with no route out: docs/how-to/air-gap.md, followed.

A recorded run (`make record air-gap`), in the order of the page. Docker Hub is played by the registry that the release is in:
the light engine under the name of vLLM, Debian's HAProxy under that of the official one. Only the reader's machine reaches it.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hack.release.artefacts import CHART, IMAGE, IMAGES
from tests.docs.pages import ROOT, yaml_objects
from tests.e2e.light import light, wait_until_ready
from tests.e2e.serving import until
from tests.testbed.gotools import binary
from tests.testbed.stage import IMAGES as BUILT
from tests.testbed.stage import LIGHT_IMAGE, OPERATOR_NAMESPACE, ROUTER_IMAGE, STANDIN_IMAGE, Stage

from .closed_node import ClosedNode, own_address
from .gap import HUB, NO_PULL, PAGE, TEAM, Gap
from .loopback import PASSWORD, USER, registry, wire
from .place import VERSION, quiet, run, running_image
from .reader import reader_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.kind import KindCluster

    from .place import Place

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(5400)]

NAME = "chat"
PACKS = f"slm-operator.io/deployment={NAME}"
STAND_INS = {"vllm/vllm-openai": LIGHT_IMAGE, "library/haproxy": ROUTER_IMAGE}
OTHER_HUB = "https://other.example"
ASK = f"""
import json, urllib.request
body = json.dumps({{"model": "{NAME}", "prompt": "Once upon a time", "max_tokens": 8}}).encode()
asked = urllib.request.Request("http://{NAME}.{TEAM}/v1/completions", body, {{"Content-Type": "application/json"}})
print(json.load(urllib.request.urlopen(asked, timeout=60))["choices"][0]["text"])
"""
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
    print("connected")
except OSError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def gap(place: Place, kind_cluster: KindCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gap]:
    """A release, an empty mirror, and a node with two stand-in GPUs that has none of our images and still its route."""
    place.release(VERSION)
    stage = Stage(kind_cluster, print)
    stage.build_images(STANDIN_IMAGE)
    stage.install_gpu(2)
    home = tmp_path_factory.mktemp("reader")
    programs = {name: binary(name) for name in ("kubectl", "helm", "oras", "cosign")}
    python = home / "python" / "bin"
    reader = reader_in(
        home, kind_cluster.kubeconfig, **programs, pip=python / "pip", **{"kubectl-slm": python / "kubectl-slm"}
    )
    run("python3", "-m", "venv", str(python.parent))
    (reader.folder / "password.txt").write_text(PASSWORD)
    with registry(home / "mirror", asks=True) as port, wire(port) as mirror:
        yield Gap(place, stage, ClosedNode(kind_cluster, mirror), reader)


def test_the_mirror_has_what_the_release_names(gap: Gap) -> None:
    gap.follow("files")
    play_hub(gap)
    gap.follow("mirror")
    assert {IMAGE.repository, CHART.repository, *STAND_INS} <= set(
        gap.reader.follow(f"oras repo ls {gap.mirror}").split()
    )
    for image in gap.mirrored().values():
        assert gap.reader.follow(f"oras resolve {image}")
    key = gap.place.keys / "cosign.pub"
    by = f"--key {key} --insecure-ignore-tlog --allow-http-registry"
    for one in (IMAGE, CHART):
        gap.reader.follow(f"cosign verify {by} {gap.mirror}/{one.repository}@{gap.place.tags()[one.name]}")


def play_hub(gap: Gap) -> None:
    """Put stand-ins there under the names that the release has for images of others, and have the reader's list name them."""
    path, (engine, cluster) = gap.reader.folder / IMAGES, (gap.stage.cluster.engine, gap.stage.cluster)
    listed = path.read_text()
    for image in [one for one in listed.split() if one.startswith(f"{HUB}/")]:
        tagged, _, digest = image.partition("@")
        name = tagged.removeprefix(f"{HUB}/")
        stand_in = STAND_INS[name.partition(":")[0]]
        dockerfile, context = BUILT[stand_in]
        cluster.build(ROOT / dockerfile, ROOT / context, stand_in)
        engine.docker("tag", stand_in, f"{gap.hub}/{name}")
        engine.docker("push", f"{gap.hub}/{name}")
        pushed = quiet(binary("oras"), "resolve", "--plain-http", f"{gap.hub}/{name}").stdout.strip()
        listed = listed.replace(image, f"{gap.hub}/{name}" + (f"@{pushed}" if digest else ""))
    path.write_text(listed)


def test_the_node_reaches_the_mirror_and_nothing_else(gap: Gap, figures: dict[str, object]) -> None:
    node, outside = gap.node, f"http://{own_address()}:{gap.place.wire.port}/v2/"
    with_route = node.asks(outside)
    assert with_route == "200", "before, it had a route"
    node.close()
    within, known = f"http://{gap.mirror}/v2/", ("--user", f"{USER}:{PASSWORD}")
    seen = {
        "outsideWithItsRoute": with_route,
        "outside": node.asks(outside),
        "mirrorWithoutCredentials": node.asks(within),
        "mirrorWithCredentials": node.asks(within, *known),
    }
    assert list(seen.values()) == ["200", "", "401", "200"]
    for image, mirrored in gap.mirrored().items():
        assert not [name for name in node.images() if name in {image, mirrored} or name.startswith(gap.mirror)]
        assert "connection refused" in node.why_no_pull(image)
        assert "401 Unauthorized" in node.why_no_pull(mirrored)
    figures["node"] = seen


def test_the_operator_is_installed_from_the_mirror(gap: Gap, figures: dict[str, object]) -> None:
    gap.follow("secret")
    (values,) = yaml_objects(PAGE)
    values = json.loads(json.dumps(values).replace("MIRROR", gap.mirror))
    (router,) = (image.removeprefix(gap.hub) for image in gap.images() if "/haproxy:" in image)
    values["config"] |= {"profiling": {"device": "Cpu"}, "packs": {"routerImage": f"{HUB}{router}"}}
    (gap.reader.folder / "values.yaml").write_text(yaml.safe_dump(values))
    began = time.monotonic()
    gap.follow("install")
    figures["operatorAvailableSeconds"] = round(time.monotonic() - began)
    assert running_image(gap.stage.cluster) == f"{gap.mirror}/{IMAGE.repository}@{gap.place.tags()[IMAGE.name]}"
    outside = (own_address(), str(gap.place.wire.port))
    assert gap.in_operator(CONNECT, *outside) != "connected"


def test_a_missing_secret_is_named_with_container_and_image(gap: Gap, figures: dict[str, object]) -> None:
    kubectl = gap.stage.cluster.kubectl
    kubectl("create", "namespace", TEAM)
    gap.stage.provide_model(TEAM)
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=mirror", "-keyout", "/dev/null"),
        *("-out", str(gap.reader.folder / "ca.crt")),
    )
    gap.follow("trust")
    gap.apply(chat(NAME))
    said = gap.refusal(NAME)
    container, image = stuck(gap)
    assert image.startswith(f"{gap.mirror}/")
    for message in said.values():
        assert f"container {container} ({image})" in message
        assert "a Secret for its registry must be in this namespace" in message
    figures["withoutSecret"] = {
        "container": container,
        "image": image.replace(gap.mirror, "MIRROR"),
        "said": said["slmp"].replace(gap.mirror, "MIRROR"),
    }


def stuck(gap: Gap) -> tuple[str, str]:
    """Container and image that the profile's pod really waits for, as its kubelet says."""
    (pod,) = gap.pods(TEAM, "slm-operator.io/profile")
    waiting = [
        (one["name"], one["image"])
        for one in [*pod["status"].get("initContainerStatuses", []), *pod["status"]["containerStatuses"]]
        if one["state"].get("waiting", {}).get("reason") in NO_PULL
    ]
    (found,) = waiting
    return found


def chat(name: str, image: str | None = None) -> dict[str, Any]:
    """A deployment whose pack is one pod: operator's image, engine and router in it."""
    made = light(name, slo={"itl": {"maxFactor": 4}}, sharing={"partitioning": "PackPod"})
    del made["spec"]["engine"]["image"]
    made["spec"]["engine"] |= {} if image is None else {"image": image}
    return made


def test_with_the_secret_it_goes_on_by_itself_to_an_answer(gap: Gap, figures: dict[str, object]) -> None:
    (measuring,), operators = gap.pods(TEAM, "slm-operator.io/profile"), lives(gap)
    began = time.monotonic()
    gap.follow("team-secret")
    until(lambda: is_running(gap, measuring["metadata"]["name"]), timeout_s=400)
    pulled = time.monotonic() - began
    wait_until_ready(gap.stage, TEAM, NAME, timeout_s=900)
    figures["afterTheSecret"] = {"pulledSeconds": round(pulled), "readySeconds": round(time.monotonic() - began)}
    (pod,) = gap.pods(TEAM, PACKS)
    parts = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
    assert {one["image"] for one in parts} == set(gap.mirrored().values())
    assert {repository(image) for image in gap.mirrored().values()} <= {repository(name) for name in gap.node.images()}
    assert gap.in_operator(ASK)
    assert lives(gap) == operators, "nobody has restarted the operator"


def repository(image: str) -> str:
    """Without tag and digest: of an image with both, a node keeps one."""
    return re.sub(r"(:[^:/]+)?(@.*)?$", "", image)


def is_running(gap: Gap, name: str) -> bool:
    """Whether this pod, and no successor of it, has started."""
    found = {pod["metadata"]["name"]: pod["status"] for pod in gap.pods(TEAM, "slm-operator.io/profile")}
    return found[name]["phase"] == "Running"


def lives(gap: Gap) -> dict[str, int]:
    """Restarts of each of the operator's pods."""
    found = gap.pods(OPERATOR_NAMESPACE, "app.kubernetes.io/name=slm-operator")
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}


def test_a_wrong_image_of_the_engine_is_named_and_no_other(gap: Gap) -> None:
    wrong = f"{gap.mirror}/vllm/vllm-openai:typo"
    gap.apply(chat("typo", wrong))
    for message in gap.refusal("typo").values():
        assert f"container engine ({wrong})" in message
        assert "check spec.engine.image" in message
    profile = gap.stage.get("slmd", "typo", TEAM)["status"]["profile"]["name"]
    gap.stage.cluster.kubectl("delete", "slmd/typo", f"slmp/{profile}", "--namespace", TEAM)


def test_another_default_is_taken_when_asked_for(gap: Gap, figures: dict[str, object]) -> None:
    """With it a wrong image of the settings: it is named, what serves goes on, and the correction is taken."""
    before, other = uids(gap), f"config.defaults.hubEndpoint={OTHER_HUB}"
    upgrade_chart(gap, other, f"config.packs.supervisorImage={HUB}/{IMAGE.repository}:typo")
    gap.follow("packages")
    gap.follow("command")
    assert uids(gap) == before, "a changed default restarts nothing"
    began = time.monotonic()
    said = gap.follow("upgrade")
    assert f"{TEAM}/{NAME} keep former defaults of the operator (hubEndpoint)" in said
    wrong = f"container runtime ({gap.mirror}/{IMAGE.repository}:typo)"
    until(lambda: wrong in gap.no_pull("slmd", NAME), timeout_s=300)
    assert before < uids(gap)
    assert gap.in_operator(ASK), "the former pack goes on"
    upgrade_chart(gap, other)
    until(lambda: [hub_of(pod) for pod in gap.pods(TEAM, PACKS)] == [OTHER_HUB], timeout_s=300)
    wait_until_ready(gap.stage, TEAM, NAME)
    figures["upgradeSeconds"] = round(time.monotonic() - began)
    assert gap.in_operator(ASK)


def upgrade_chart(gap: Gap, *values: str) -> None:
    """The release again, with these values beside the page's."""
    chart = f"slm-operator oci://{gap.mirror}/charts/slm-operator --version {VERSION} --namespace {OPERATOR_NAMESPACE}"
    gap.reader.follow(f"helm upgrade {chart} --values values.yaml {' '.join(f'--set {one}' for one in values)} --wait")


def uids(gap: Gap) -> set[str]:
    return {pod["metadata"]["uid"] for pod in gap.pods(TEAM, PACKS)}


def hub_of(pod: dict[str, Any]) -> str | None:
    """The hub that its engine is given."""
    (engine,) = (one for one in pod["spec"]["containers"] if one["name"] == "engine")
    return next((one["value"] for one in engine["env"] if one["name"] == "HF_ENDPOINT"), None)
