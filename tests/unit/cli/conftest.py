from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from unit.cli.api_server import ApiServer, serve
from unit.cli.asking import Asker
from unit.cli.cluster_objects import LEASE, MANIFEST, lease, ready_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("COLUMNS", "160")
    answers = ready_cluster() | {LEASE: lease()}  # the Lease is young when a test begins, however long collecting took
    yield from serve(ApiServer(answers=answers), tmp_path / "kubeconfig")


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "slmd.yaml"
    path.write_text(yaml.safe_dump(MANIFEST))
    return str(path)


@pytest.fixture
def ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Asker:
    return Asker(tmp_path, capsys)
