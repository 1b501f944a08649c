"""`make release` into an empty registry, and an answer from what was released, with no clone in reach.

A recorded run: it builds the registry, oras and cosign (cosign alone takes ten minutes when cold), two images and a
cluster. `make record release`.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hack.release.artefacts import ARTEFACTS, CHART, IMAGE
from tests.e2e.light import applied, import_profile, light, wait_until_ready
from tests.testbed.docker_engine import docker_engine
from tests.testbed.docker_images import PYTHON, ensure_base
from tests.testbed.gotools import binary
from tests.testbed.stage import LIGHT_IMAGE, STANDIN_IMAGE, Stage

from .loopback import PASSWORD, USER, Wire, registry, wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.testbed.kind import KindCluster

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(5400)]
ROOT = Path(__file__).parents[2]
VERSION, WHO, TEAM = "0.1.0", "release@example.org", "team"
ENTRY = f"## {VERSION}\n\n### Added\n\n- The first release.\n\n## Unreleased\n"


@dataclass(frozen=True, slots=True)
class Place:
    """What a release needs, outside of this clone."""

    clone: Path
    keys: Path
    wire: Wire
    environment: dict[str, str]

    @property
    def registry(self) -> str:
        return f"localhost:{self.wire.port}/slm"

    def make(self, **changed: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["make", "--no-print-directory", "release"],
            cwd=self.clone,
            env=self.environment | changed,
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, done.stderr)
        return done

    def tags(self) -> dict[str, str]:
        """Every tag of the version, with its digest."""
        found = {}
        for one in ARTEFACTS:
            done = quiet(binary("oras"), "resolve", "--plain-http", f"{self.registry}/{one.repository}:{VERSION}")
            found |= {one.name: done.stdout.strip()} if not done.returncode else {}
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A clone of the commit, keys, an empty registry, and the operator's base in it by digest."""
    folder = tmp_path_factory.mktemp("release")
    with docker_engine() as engine, registry(folder / "registry") as port, wire(port) as between:
        base = f"localhost:{between.port}/python:3.11"
        if engine.private:
            ensure_base(engine, PYTHON)
        else:
            engine.docker("pull", PYTHON)
        engine.docker("tag", PYTHON, base)
        engine.docker("push", base)
        digest = quiet(binary("oras"), "resolve", "--plain-http", base).stdout.strip()
        keys = make_keys(folder / "keys")
        run("git", "clone", "--quiet", str(ROOT), str(folder / "clone"))
        given = {
            "REGISTRY": f"localhost:{between.port}/slm",
            "RELEASES": "http://127.0.0.1:1/releases",
            "PYTHON": f"{base.rpartition(':')[0]}@{digest}",
            "SIGN_KEY": str(keys / "cosign.key"),
            "CHART_KEYRING": str(keys / "secring.gpg"),
            "CHART_KEY": WHO,
            "BUILD_OPTIONS": "--network host",
            "ALLOW_STALE": "1",
            "COSIGN_PASSWORD": "",
        }
        yield Place(folder / "clone", keys, between, {**engine.env(), **given})


def make_keys(folder: Path) -> Path:
    """A key pair of cosign, and one of PGP in the files that helm reads."""
    folder.mkdir(mode=0o700)
    subprocess.run(
        [binary("cosign"), "generate-key-pair"], cwd=folder, env=os.environ | {"COSIGN_PASSWORD": ""}, check=True
    )
    home = ("gpg", "--batch", "--homedir", str(folder))
    run(*home, "--passphrase", "", "--quick-generate-key", f"Release <{WHO}>", "rsa3072", "sign", "never")
    run(*home, "--output", str(folder / "secring.gpg"), "--export-secret-keys", WHO)
    run(*home, "--output", str(folder / "pubring.gpg"), "--export", WHO)
    return folder


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def quiet(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


def commit(clone: Path, subject: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    run("git", *who, "commit", "--quiet", "--all", "--message", subject, cwd=clone)


def test_release_from_an_empty_registry_and_again(place: Place) -> None:
    refused = place.make()
    assert refused.returncode == 2
    assert f"no entry below a heading `## {VERSION}`" in refused.stderr

    changelog = place.clone / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("## Unreleased\n", ENTRY))
    assert "the tree has changes that no commit has (M CHANGELOG.md)" in place.make().stderr
    commit(place.clone, "Enter the version")

    place.wire.cut_at = place.wire.sent + (20 << 20)
    broken = place.make()
    assert broken.returncode
    assert "Run the same command again" in broken.stderr
    place.wire.cut_at, before = None, place.wire.sent
    assert place.tags() == {}, "half a release has no tag"

    whole = place.make()
    assert whole.returncode == 0
    assert "dist/release is of this commit already" in whole.stderr
    released = place.tags()
    assert released.keys() == {one.name for one in ARTEFACTS}
    size = sum(path.stat().st_size for path in (place.clone / "dist/release/oci/blobs/sha256").iterdir())
    assert place.wire.sent - before < size, "what had arrived was not sent again"

    again = place.make()
    assert again.returncode == 0
    assert "the registry has all of it already" in again.stderr
    assert place.tags() == released


def test_a_tag_of_other_bytes_and_missing_credentials_stop_it(place: Place, tmp_path: Path) -> None:
    kept = place.tags()
    saved = shutil.copytree(place.clone / "dist", tmp_path / "dist")
    readme = place.clone / "README.md"
    readme.write_text(readme.read_text() + "\n")
    commit(place.clone, "Change a byte")
    other = place.make()
    assert other.returncode == 2
    assert f"the registry has {VERSION} already" in other.stderr
    assert "building" not in other.stderr
    assert place.tags() == kept

    with registry(tmp_path / "closed", asks=True) as port:
        closed = {"REGISTRY": f"localhost:{port}/slm"}
        asked = place.make(**closed)
        assert asked.returncode
        assert f"docker login localhost:{port}, or REGISTRY_USER and REGISTRY_PASSWORD" in asked.stderr
        entered = place.make(**closed, REGISTRY_USER=USER, REGISTRY_PASSWORD=PASSWORD)
        assert entered.returncode == 0
    shutil.rmtree(place.clone / "dist")
    shutil.copytree(saved, place.clone / "dist")


def test_what_was_released_is_verified_without_the_clone(place: Place, tmp_path: Path) -> None:
    digests, keys = place.tags(), place.keys
    files = tmp_path / "files"
    run(
        str(binary("oras")),
        "pull",
        "--plain-http",
        "--output",
        str(files),
        f"{place.registry}/slm-operator-files:{VERSION}",
    )
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=files)
    by = ("--key", str(keys / "cosign.pub"), "--insecure-ignore-tlog")
    cosign = str(binary("cosign"))
    run(cosign, "verify-blob", *by, "--bundle", str(files / "SHA256SUMS.bundle"), str(files / "SHA256SUMS"))
    for one in ARTEFACTS:
        run(cosign, "verify", *by, "--allow-http-registry", f"{place.registry}/{one.repository}@{digests[one.name]}")
    image = f"{place.registry}/{IMAGE.repository}@{digests[IMAGE.name]}"
    for kind in ("cyclonedx", "slsaprovenance1"):
        run(cosign, "verify-attestation", *by, "--allow-http-registry", "--type", kind, image)
    index = json.loads(run(str(binary("oras")), "manifest", "fetch", "--plain-http", image))
    assert [one["platform"] for one in index["manifests"]] == [{"os": "linux", "architecture": "amd64"}]
    told = json.loads((files / "provenance.intoto.json").read_text())
    subjects = {one["name"]: one["digest"]["sha256"] for one in told["subject"]}
    assert subjects[CHART.repository] == digests[CHART.name].removeprefix("sha256:")
    assert image in (files / "images.txt").read_text()
    (chart,) = files.glob("*.tgz")
    run(str(binary("helm")), "verify", "--keyring", str(keys / "pubring.gpg"), str(chart))
    chart.write_bytes(chart.read_bytes() + b"\0")
    assert quiet(binary("helm"), "verify", "--keyring", keys / "pubring.gpg", chart).returncode == 1


def test_two_lines_bring_an_answer_without_the_clone(
    place: Place, kind_cluster: KindCluster, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    stage = Stage(kind_cluster, print)
    stage.build_images(STANDIN_IMAGE, LIGHT_IMAGE)
    stage.install_gpu()
    reach_loopback(kind_cluster, place.wire.port)
    place.clone.rename(tmp_path / "away")
    try:
        began = time.monotonic()
        helm = [str(binary("helm")), f"--kubeconfig={kind_cluster.kubeconfig}", "install", "slm-operator"]
        helm += [f"oci://{place.registry}/charts/slm-operator", "--version", VERSION, "--namespace", "slm-system"]
        helm += ["--create-namespace", "--verify", "--keyring", str(place.keys / "pubring.gpg"), "--wait"]
        run(*helm, "--set", "config.profiling.device=Cpu", cwd=tmp_path)
        available = time.monotonic() - began
        kind_cluster.kubectl("wait", "crd/slmdeployments.slm-operator.io", "--for=condition=Established")
        assert running_image(kind_cluster) == f"{place.registry}/{IMAGE.repository}@{place.tags()[IMAGE.name]}"
        answer = ask(stage)
        answered = time.monotonic() - began
    finally:
        (tmp_path / "away").rename(place.clone)
    figures = {"operatorAvailableSeconds": round(available), "answerSeconds": round(answered), "answer": answer}
    record_property("note", json.dumps(figures))
    if (target := os.environ.get("SLM_RECORD")) is not None:
        Path(target).write_text(json.dumps(figures, indent=1) + "\n")


def test_plain_manifests_are_applied_from_a_url(place: Place, kind_cluster: KindCluster) -> None:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(place.clone / "dist/release/files"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/install.yaml"
        said = kind_cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", url)
        server.shutdown()
    assert "deployment.apps/slm-operator serverside-applied (server dry run)" in said


def reach_loopback(cluster: KindCluster, port: int) -> None:
    """Let the node find this machine's loopback registry under the same name: containerd speaks plainly with no other."""
    gateway = cluster.exec("sh", "-c", "ip route show default | cut -d' ' -f3").strip()
    to = ("--protocol", "tcp", "--dport", str(port), "--jump")
    cluster.exec("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    output = ("--append", "OUTPUT", "--destination", "127.0.0.1", *to, "DNAT", "--to-destination", f"{gateway}:{port}")
    cluster.exec("iptables", "--table", "nat", *output)
    cluster.exec("iptables", "--table", "nat", "--append", "POSTROUTING", "--destination", gateway, *to, "MASQUERADE")


def running_image(cluster: KindCluster) -> str:
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    return cluster.kubectl("get", "deployment/slm-operator", "--namespace", "slm-system", "--output", path)


def ask(stage: Stage) -> str:
    """An SLMDeployment of the light engine, and what it answers by its Service."""
    stage.cluster.kubectl("create", "namespace", TEAM)
    stage.provide_model(TEAM)
    stage.opt_in()
    import_profile(stage, TEAM)
    chat = light("chat", profiling={"profileRef": {"name": "imported"}}, slo={"itl": {"maxMs": 12}})
    with applied(stage, TEAM, chat) as name:
        wait_until_ready(stage, TEAM, name, timeout_s=600)
        address = stage.cluster.kubectl(
            "get", "service", name, "--namespace", TEAM, "--output=jsonpath={.spec.clusterIP}"
        )
        body = json.dumps({"model": name, "prompt": "Once upon a time", "max_tokens": 8})
        asked = ("curl", "--silent", "--fail", "--header", "Content-Type: application/json", "--data", body)
        said = json.loads(stage.cluster.exec(*asked, f"http://{address.strip()}/v1/completions"))
        return str(said["choices"][0]["text"])
