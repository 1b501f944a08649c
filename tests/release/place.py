"""What a release needs outside of this clone: another clone, keys, a registry, and a folder behind a URL."""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import subprocess
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hack.release.artefacts import ARTEFACTS
from tests.testbed.docker_engine import docker_engine
from tests.testbed.docker_images import PYTHON, ensure_base
from tests.testbed.gotools import binary

from .loopback import Wire, registry, wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.kind import KindCluster

ROOT = Path(__file__).parents[2]
VERSION, NEXT, WHO = "0.1.0", "0.1.1", "release@example.org"


@dataclass(frozen=True, slots=True)
class Place:
    """One such place, whose registry and site are on loopback."""

    clone: Path
    keys: Path
    wire: Wire
    site: Path
    """Whoever releases copies the files here."""
    environment: dict[str, str]

    @property
    def registry(self) -> str:
        return self.environment["REGISTRY"]

    @property
    def releases(self) -> str:
        """The site's URL."""
        return self.environment["RELEASES"]

    def make(self, **changed: str) -> subprocess.CompletedProcess[str]:
        """`make release` in the clone."""
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

    def enter(self, version: str) -> None:
        """Write an entry of this version into the changelog."""
        log = self.clone / "CHANGELOG.md"
        entry = f"## {version}\n\n### Added\n\n- What users will notice.\n\n"
        log.write_text(log.read_text().replace("## Unreleased\n", f"{entry}## Unreleased\n"))

    def release(self, version: str) -> None:
        """Have this version in the registry and its files behind the URL: released from the clone, unless it is there."""
        if (files := self.site / f"v{version}").exists():
            return
        if not self.tags(version):
            if version != VERSION:
                self._raise_to(version)
            self.enter(version)
            self.commit(f"Release {version}")
            assert self.make().returncode == 0
        shutil.copytree(self.clone / "dist/release/files", files)

    def _raise_to(self, version: str) -> None:
        for name in ("pyproject.toml", "charts/slm-operator/Chart.yaml"):
            path = self.clone / name
            path.write_text(path.read_text().replace(VERSION, version))
        run("make", "generate", cwd=self.clone)

    def commit(self, subject: str) -> None:
        """Commit all that was changed in the clone."""
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        run("git", *who, "commit", "--quiet", "--all", "--message", subject, cwd=self.clone)

    def tags(self, version: str = VERSION) -> dict[str, str]:
        """Every tag of the version, with its digest."""
        found = {}
        for one in ARTEFACTS:
            done = quiet(binary("oras"), "resolve", "--plain-http", f"{self.registry}/{one.repository}:{version}")
            found |= {one.name: done.stdout.strip()} if not done.returncode else {}
        return found

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Meanwhile nothing finds the clone."""
        hidden = self.clone.with_name("away")
        self.clone.rename(hidden)
        try:
            yield
        finally:
            hidden.rename(self.clone)


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A clone of the commit, keys, an empty registry, and the operator's base in it by digest."""
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
        with site(folder / "site") as url:
            given = {
                "REGISTRY": f"localhost:{between.port}/slm",
                "RELEASES": url,
                "PYTHON": f"{base.rpartition(':')[0]}@{digest}",
                "SIGN_KEY": str(keys / "cosign.key"),
                "CHART_KEYRING": str(keys / "secring.gpg"),
                "CHART_KEY": WHO,
                "BUILD_OPTIONS": "--network host",
                "ALLOW_STALE": "1",
                "COSIGN_PASSWORD": "",
            }
            yield Place(folder / "clone", keys, between, folder / "site", {**engine.env(), **given})


@contextlib.contextmanager
def site(folder: Path) -> Iterator[str]:
    """The URL of a folder."""
    folder.mkdir()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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


def running_image(cluster: KindCluster) -> str:
    """The operator's image, as its Deployment names it."""
    path = "jsonpath={.spec.template.spec.containers[0].image}"
    return cluster.kubectl("get", "deployment/slm-operator", "--namespace", "slm-system", "--output", path)


def run(*command: str, cwd: Path | None = None) -> str:
    """Its stdout; the test fails where it fails."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def quiet(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """What became of it."""
    return subprocess.run(command, check=False, capture_output=True, text=True)
