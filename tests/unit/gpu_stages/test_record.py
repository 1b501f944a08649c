"""What is on disk is whole, is not replaced by less, and names no machine."""

import json
import socket
import sys
from pathlib import Path

import pytest

from benchmarks.gpu_stages import record
from benchmarks.gpu_stages.record import ROOT, Lack, State
from tests.unit.gpu_stages.conftest import a_record

LATER = "2026-01-02T00:00:00Z"


def test_a_record_is_read_as_it_was_kept(tmp_path: Path) -> None:
    one = a_record("mps").without("x", Lack(state=State.FAILED, why="refused")).with_figure("y", [1, 2])
    record.keep(tmp_path, one)
    assert record.read(tmp_path, "mps") == one
    assert [path.name for path in tmp_path.iterdir()] == ["mps.json"]


def test_record_with_fewer_figures_replaces_none_with_more(tmp_path: Path) -> None:
    more = a_record("mps", figures={"a": 1, "b": 2})
    record.keep(tmp_path, more)
    record.keep(tmp_path, a_record("mps", began=LATER))
    assert record.read(tmp_path, "mps") == more
    better = a_record("mps", began=LATER, figures={"a": 3, "b": 4})
    record.keep(tmp_path, better)
    assert record.read(tmp_path, "mps") == better


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "other"}', '{"lacking": {"x": 1}}'])
def test_a_file_that_is_no_record_counts_as_none(tmp_path: Path, text: str) -> None:
    record.path_of(tmp_path, "mps").write_text(text)
    assert record.read(tmp_path, "mps") is None
    record.keep(tmp_path, a_record("mps"))
    assert record.read(tmp_path, "mps") == a_record("mps")


def test_a_record_of_another_format_counts_as_none(tmp_path: Path) -> None:
    record.keep(tmp_path, a_record("mps"))
    path = record.path_of(tmp_path, "mps")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": "v0"}))
    assert record.read(tmp_path, "mps") is None


def test_kept_record_names_no_host_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7")
    why = f"{ROOT}/benchmarks failed on node-7 under {Path.home()}/x by {sys.prefix}/bin/python"
    record.keep(tmp_path, a_record("mps", incomplete_because=why))
    kept = record.read(tmp_path, "mps")
    assert kept
    assert kept.incomplete_because == "$REPOSITORY/benchmarks failed on $HOST under ~/x by $PYTHON/bin/python"
