"""One place for all tests of releasing: a release takes minutes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.testbed.stage import LIGHT_IMAGE, STANDIN_IMAGE, Stage

from .place import Place, place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.kind import KindCluster


@pytest.fixture(scope="session", name="place")
def lent_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("release")) as made:
        yield made


@pytest.fixture(scope="session")
def stage(place: Place, kind_cluster: KindCluster) -> Stage:
    """A kind node with a stand-in GPU that finds the registry; nothing of ours is on it."""
    made = Stage(kind_cluster, print)
    made.build_images(STANDIN_IMAGE, LIGHT_IMAGE)
    made.install_gpu()
    place.wire.reach_from(kind_cluster)
    return made


@pytest.fixture(scope="session")
def figures() -> Iterator[dict[str, object]]:
    """What was measured, for the record."""
    measured: dict[str, object] = {}
    yield measured
    if (target := os.environ.get("SLM_RECORD")) is not None:
        Path(target).write_text(json.dumps(measured, indent=1) + "\n")
