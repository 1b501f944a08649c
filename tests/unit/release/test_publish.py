"""What a registry gets of a release, in which order, and after which break."""

from __future__ import annotations

import pytest

from hack.release.artefacts import ARTEFACTS, CHART, IMAGE
from hack.release.plan import TagTakenError
from hack.release.publish import publish
from hack.release.registry import RegistryError

from .played_registry import PlayedRegistry

DIGESTS = {one.name: f"sha256:{number:064x}" for number, one in enumerate(ARTEFACTS)}
NAMES = [one.name for one in ARTEFACTS]
WRITES = [f"{word} {name}" for word in ("push", "sign", "tag") for name in NAMES]
VERSION = "0.1.0"


def release(registry: PlayedRegistry, digests: dict[str, str] = DIGESTS) -> None:
    publish(registry, digests, VERSION, lambda _: None)


def test_everything_is_pushed_then_signed_then_named() -> None:
    registry = PlayedRegistry()
    release(registry)
    assert registry.log == WRITES
    assert registry.log[-1] == "tag chart", "people install by it"


def test_a_second_release_of_the_same_bytes_writes_nothing() -> None:
    registry = PlayedRegistry()
    release(registry)
    release(registry)
    assert registry.log == WRITES


@pytest.mark.parametrize("at", range(len(WRITES)), ids=WRITES)
def test_a_release_that_broke_off_is_gone_on_with(at: int) -> None:
    registry = PlayedRegistry(breaks_at=at)
    with pytest.raises(RegistryError, match="connection reset"):
        release(registry)
    if at <= WRITES.index(f"tag {NAMES[0]}"):
        assert registry.named == {}, "half a release has no tag"
    release(registry)
    assert registry.log == WRITES, "each write once"


def test_a_tag_of_other_bytes_is_refused_and_nothing_written() -> None:
    registry = PlayedRegistry()
    release(registry)
    with pytest.raises(TagTakenError, match=r"charts/slm-operator:0\.1\.0 is sha256:0{63}2\).*raise the version"):
        release(registry, DIGESTS | {CHART.name: f"sha256:{'f' * 64}"})
    assert registry.log == WRITES


def test_what_another_version_has_is_left_alone() -> None:
    registry = PlayedRegistry()
    publish(registry, DIGESTS, "0.0.9", lambda _: None)
    release(registry, DIGESTS | {IMAGE.name: f"sha256:{'e' * 64}"})
    assert set(registry.tags(CHART)) == {"0.0.9", VERSION}
    assert registry.named[IMAGE.repository, "0.0.9"] == DIGESTS[IMAGE.name]
    assert registry.log[len(WRITES) :] == ["push image", "sign image", *WRITES[-3:]]
