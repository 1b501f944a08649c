"""What is put together without any program: the layout of an image, the changelog's section, the provenance, the parameters."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from hack.release import changelog, files, keys, parameters
from hack.release.oci import Layout
from hack.release.provenance import predicate, statement

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = {
    "REGISTRY": "GHCR.io/Owner/",
    "RELEASES": "https://example.org/releases",
    "PYTHON": f"python:3.11@sha256:{'0a' * 32}",
    "SIGN_KEY": "cosign.key",
    "CHART_KEYRING": "ring.gpg",
    "CHART_KEY": "who@example.org",
}
LOG = """# Changelog

## Unreleased

- Not yet.

## [0.2.0] - 2026-12-01

### Added

- `spec.a` of [a page](docs/README.md),
  in two lines.

### Moving to it

- B.

## 0.1.0, 2026-11-01

### Fixed
"""


def saved(folder: Path, layers: dict[str, bytes], config: str = "abc.json") -> Path:
    """An archive as `docker save` writes it."""
    told = json.dumps([{"Config": config, "RepoTags": ["x:1"], "Layers": list(layers)}]).encode()
    target = folder / "image.tar"
    with tarfile.open(target, "w") as archive:
        for name, content in {**layers, config: b'{"os":"linux"}', "manifest.json": told}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target


def blob(layout: Layout, digest: str) -> bytes:
    content = (layout.folder / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest.removeprefix("sha256:")
    return content


@pytest.mark.parametrize("names", [("1/layer.tar", "2/layer.tar"), ("blobs/sha256/aa", "blobs/sha256/bb")])
def test_a_saved_image_becomes_a_manifest_of_its_layers(tmp_path: Path, names: tuple[str, str]) -> None:
    layout = Layout(tmp_path / "oci")
    made = layout.image(saved(tmp_path, dict(zip(names, (b"one", b"two"), strict=True))), "linux/arm64")
    assert made["platform"] == {"os": "linux", "architecture": "arm64"}
    manifest = json.loads(blob(layout, made["digest"]))
    assert [len(blob(layout, layer["digest"])) for layer in manifest["layers"]] == [
        layer["size"] for layer in manifest["layers"]
    ]
    assert blob(layout, manifest["config"]["digest"]) == b'{"os":"linux"}'


def test_the_same_image_has_the_same_digest(tmp_path: Path) -> None:
    archive = saved(tmp_path, {"1/layer.tar": b"one"})
    first, second = (Layout(tmp_path / name).image(archive, "linux/amd64") for name in ("a", "b"))
    assert first == second


def test_what_is_pushed_is_found_by_name(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.name({"chart": layout.manifest(layout.blob(b"{}", "text/plain"), [])})
    (entry,) = json.loads((tmp_path / "index.json").read_text())["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "chart"}
    assert blob(layout, entry["digest"])


def test_a_versions_section_is_what_is_below_its_heading() -> None:
    section = changelog.section(LOG, "0.2.0")
    assert section is not None
    assert section.startswith("### Added")
    assert section.endswith("- B.")
    assert changelog.changes(section) == [
        {"kind": "added", "description": "spec.a of a page, in two lines."},
        {"kind": "changed", "description": "B."},
    ]


@pytest.mark.parametrize("version", ["0.2", "0.2.00", "1.0.0", "0.1.0"])
def test_a_version_without_an_entry_has_no_section(version: str) -> None:
    assert changelog.section(LOG, version) is None


def test_images_are_those_of_manifests_and_settings() -> None:
    pod = {"spec": {"containers": [{"image": "localhost:5000/slm-operator@sha256:0a"}]}}
    config = (
        "profiling: {image: 'localhost:5000/slm-operator@sha256:0a', concurrent: 2}\n"
        "packs: {routerImage: 'reg.example/router:1'}\ndefaults: {engineImage: 'vllm/engine:1'}"
    )
    objects: list[dict[str, Any]] = [
        {"kind": "Deployment", "spec": {"template": pod}},
        {"kind": "ConfigMap", "data": {"config.yaml": config}},
        {"kind": "ConfigMap", "data": {"overview.json": "{}"}},
    ]
    named = files.images(objects)
    assert named == ["docker.io/vllm/engine:1", "localhost:5000/slm-operator@sha256:0a", "reg.example/router:1"]


@pytest.mark.parametrize(
    ("image", "whole"),
    [
        ("haproxy:3.2", "docker.io/library/haproxy:3.2"),
        ("vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1"),
        ("docker.io/library/haproxy:3.2@sha256:0a", "docker.io/library/haproxy:3.2@sha256:0a"),
        ("localhost/a:1", "localhost/a:1"),
        ("ghcr.io/owner/slm-operator@sha256:0a", "ghcr.io/owner/slm-operator@sha256:0a"),
    ],
)
def test_an_image_is_listed_with_its_registry(image: str, whole: str) -> None:
    settings = {"kind": "ConfigMap", "data": {"config.yaml": f"profiling: {{image: {image!r}}}"}}
    assert files.images([settings]) == [whole]


def test_provenance_names_base_commit_and_stale_records() -> None:
    made = predicate(parameters.read(GIVEN), "0.1.0", "c0ffee", "ab" * 32, {"seeds": "never recorded"})
    told = statement({"slm.yaml": "cd" * 32}, made)
    assert told["subject"] == [{"name": "slm.yaml", "digest": {"sha256": "cd" * 32}}]
    build = told["predicate"]["buildDefinition"]
    assert build["internalParameters"] == {"staleRecords": {"seeds": "never recorded"}}
    assert [one["digest"] for one in build["resolvedDependencies"]] == [
        {"gitCommit": "c0ffee"},
        {"sha256": "0a" * 32},
        {"sha256": "ab" * 32},
    ]


def test_every_missing_parameter_is_named_with_an_example() -> None:
    said = parameters.missing({"REGISTRY_USER": "me"})
    assert len(said) == len(parameters.REQUIRED) + 1
    assert all(name in "\n".join(said) for name in (*parameters.REQUIRED, "REGISTRY_PASSWORD"))
    assert parameters.missing(GIVEN) == ()
    (secret,) = parameters.missing(GIVEN | {"CHART_KEYRING": "base64:"})
    assert "CHART_KEYRING is not given" in secret, "a secret that a repository lacks is empty"


def test_parameters_are_read_as_they_are_given() -> None:
    read = parameters.read(GIVEN | {"PLATFORMS": "linux/amd64,linux/arm64", "ALLOW_STALE": "1"})
    assert (read.registry, read.host, read.plain_http) == ("ghcr.io/owner", "ghcr.io", False)
    assert read.platforms == ("linux/amd64", "linux/arm64")
    assert read.allow_stale


@pytest.mark.parametrize("registry", ["localhost:5000/a", "127.0.0.1:5000"])
def test_only_this_machines_registry_is_spoken_with_plainly(registry: str) -> None:
    assert parameters.read(GIVEN | {"REGISTRY": registry}).plain_http


def test_a_workflow_is_named_as_builder_with_its_tag() -> None:
    github = {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v0.1.0", "GITHUB_SERVER_URL": "https://github.com"}
    read = parameters.read(
        GIVEN | github | {"GITHUB_WORKFLOW_REF": "o/r/.github/workflows/release.yaml@refs/tags/v0.1.0"}
    )
    assert read.git_tag == "v0.1.0"
    assert read.builder == "https://github.com/o/r/.github/workflows/release.yaml@refs/tags/v0.1.0"


LISTED = """tru::1:1796054098:0:3:1:5
pub:-:3072:1:635F5CDC9748D106:1796054086:::-:::scSC::::::23::0:
fpr:::::::::5E8F3BFE3E6EF0E1A97A6F5A635F5CDC9748D106:
uid:-::::1796054086::F7DD::Release <release@example.org>::::::::::0:
sub:-:3072:1:0A0A0A0A0A0A0A0A:1796054086::::::e::::::23:
fpr:::::::::00000000000000000000000000000000000000AA:
pub:-:3072:1:F825862E5432EC04:1796054090:::-:::scSC::::::23::0:
fpr:::::::::714AE64F76A667D4EF22F9F0F825862E5432EC04:
uid:-::::1796054090::81CC::Release <release@example.org> of 2027::::::::::0:
uid:-::::1796054090::81CD::Old release <release@example.org>::::::::::0:
"""
FIRST, SECOND = "5E8F3BFE3E6EF0E1A97A6F5A635F5CDC9748D106", "714AE64F76A667D4EF22F9F0F825862E5432EC04"


@pytest.mark.parametrize(
    ("who", "found"),
    [
        ("of 2027", [SECOND]),
        ("Release <release@example.org>", [FIRST]),
        ("release@example.org", [FIRST, SECOND]),
        ("nobody", []),
    ],
)
def test_a_key_is_found_by_its_user_as_helm_finds_it(who: str, found: list[str]) -> None:
    assert keys.fingerprints(LISTED, who) == found
