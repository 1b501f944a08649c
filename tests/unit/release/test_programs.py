"""What oras, cosign and gh are called with, and what is made of their answers: programs of the same names play them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from hack.release import keys, parameters
from hack.release.artefacts import CHART, IMAGE
from hack.release.pages import GithubPage
from hack.release.registry import OciRegistry, RegistryError
from hack.release.tools import ToolError, run

from .test_contents import GIVEN

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{'0a' * 32}"
# As oras 1.3.6 says them of distribution 3.1.2; the last two of each where a registry gives no code.
NOT_THERE = [
    "Error response from registry: name unknown: repository name not known to registry: map[name:slm/charts/slm-operator]",
    "Error: failed to resolve digest: localhost:1/slm/charts/slm-operator:0.1.0: not found",
    "Error: response status code 404: Not Found",
]
NOT_ALLOWED = [
    "Error: basic credential not found",
    "Error response from registry: unauthorized: authentication required",
    "Error: response status code 403: Forbidden",
]


def played(folder: Path, name: str, body: str) -> Path:
    """A program that writes its words into a file of its name, and then does `body`."""
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.log\n{body}\n')
    program.chmod(0o755)
    return program


def calls(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.log").read_text().splitlines()


def registry(folder: Path, oras: str = "exit 0", **changed: str) -> OciRegistry:
    given = parameters.read(GIVEN | {"REGISTRY": "localhost:1/slm"} | changed)
    (folder / "docker").mkdir()
    programs = (played(folder, "oras", oras), played(folder, "cosign", "exit 0"))
    return OciRegistry(given, *programs, folder, folder / "docker")


def said(text: str, status: int = 1) -> str:
    return f"echo '{text}' >&2\nexit {status}"


@pytest.mark.parametrize("answer", NOT_THERE)
def test_a_repository_that_is_not_there_has_no_tags(tmp_path: Path, answer: str) -> None:
    assert registry(tmp_path, said(answer)).tags(CHART) == ()
    assert calls(tmp_path, "oras") == ["repo tags localhost:1/slm/charts/slm-operator --plain-http"]


def test_tags_are_those_that_oras_lists(tmp_path: Path) -> None:
    assert registry(tmp_path, "echo 0.1.0\necho 0.2.0").tags(CHART) == ("0.1.0", "0.2.0")


@pytest.mark.parametrize("answer", NOT_ALLOWED)
def test_a_registry_that_wants_credentials_is_said(tmp_path: Path, answer: str) -> None:
    with pytest.raises(RegistryError, match=r"docker login localhost:1, or REGISTRY_USER and REGISTRY_PASSWORD"):
        registry(tmp_path, said(answer)).tags(CHART)


def test_a_push_that_broke_off_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"pushing image.*reset by peer(?s:.*)Run the same command again"):
        registry(tmp_path, said("write: connection reset by peer")).push(IMAGE, DIGEST)


def test_credentials_are_kept_in_the_runs_own_folder(tmp_path: Path) -> None:
    shown = "cat $DOCKER_CONFIG/config.json"
    asked = registry(tmp_path, shown, REGISTRY_USER="me", REGISTRY_PASSWORD="secret")
    config = json.loads("".join(asked.tags(CHART)))
    assert base64.b64decode(config["auths"]["localhost:1"]["auth"]) == b"me:secret"
    assert "secret" not in "".join(calls(tmp_path, "oras"))


def test_the_image_is_attested_before_it_is_signed_by_digest(tmp_path: Path) -> None:
    registry(tmp_path).sign(IMAGE, DIGEST)
    first, second, third = calls(tmp_path, "cosign")
    assert "attest" in first
    assert "--type cyclonedx" in first
    assert "--type slsaprovenance1" in second
    assert (
        third
        == f"sign --yes --key cosign.key --tlog-upload=false --allow-http-registry localhost:1/slm/slm-operator@{DIGEST}"
    )


def test_a_workflow_signs_without_a_key_and_in_the_public_log(tmp_path: Path) -> None:
    registry(tmp_path, SIGN_KEY="keyless", REGISTRY="ghcr.io/me").sign(CHART, DIGEST)
    assert calls(tmp_path, "cosign") == [f"sign --yes ghcr.io/me/charts/slm-operator@{DIGEST}"]


def test_a_page_on_github_is_a_draft_until_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played(tmp_path, "gh", '[ "$2" != view ]')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/slm.yaml").touch()
    page = GithubPage.of("https://github.com/me/slm/releases/download", "0.1.0")
    assert page is not None
    page.offer(tmp_path)
    page.open()
    assert [call.split()[1:4] for call in calls(tmp_path, "gh")] == [
        ["view", "v0.1.0", "--repo"],
        ["create", "v0.1.0", "--draft"],
        ["upload", "v0.1.0", "--clobber"],
        ["edit", "v0.1.0", "--draft=false"],
    ]
    assert GithubPage.of("https://example.org/releases", "0.1.0") is None


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(ToolError, match="no-such-program is needed, and not in PATH"):
        run(["no-such-program"])


def test_a_keyring_that_was_given_as_text_becomes_a_file(tmp_path: Path) -> None:
    given = parameters.read(GIVEN | {"CHART_KEYRING": f"base64:{base64.b64encode(b'ring').decode()}"})
    path = parameters.with_keyring(given, tmp_path).chart_keyring
    assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"ring"


def listed(*users: str) -> str:
    return "".join(f"pub:\nfpr:::::::::{number:040X}:\nuid:::::::::{user}:\n" for number, user in enumerate(users))


@pytest.mark.parametrize("users", [(), ("A <who@example.org>", "B <who@example.org>")])
def test_a_ring_without_that_one_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: tuple[str, ...]
) -> None:
    (tmp_path / "listed").write_text(listed(*users))
    played(tmp_path, "gpg", f"cat {tmp_path}/listed")
    played(tmp_path, "gpgconf", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ToolError, match=rf"CHART_KEY=who@example\.org names {len(users)} keys.*say its whole user ID"):
        keys.public(parameters.read(GIVEN))
    assert "--kill all" in calls(tmp_path, "gpgconf")[0]
