"""A record is kept only of a run that passed on committed files, and is stale once what it guards is another."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import records
from benchmarks.records import RUNS, Recorded, read, staleness
from benchmarks.records import run as record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two files, and a run that writes a figure and guards one of them."""
    monkeypatch.setattr(records, "ROOT", tmp_path)
    monkeypatch.setattr(records, "RECORDS", tmp_path / "records")
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.provenance.ROOT", tmp_path)
    (tmp_path / "guarded.py").write_text("1\n")
    (tmp_path / "other.py").write_text("1\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    monkeypatch.setitem(
        RUNS, "tried", tried("import os, pathlib; pathlib.Path(os.environ['SLM_RECORD']).write_text('7')")
    )
    return tmp_path


def tried(code: str) -> Recorded:
    return Recorded("a figure", (Path(sys.executable).name, "-c", code), ("guarded.py",), "tried.json")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    return subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "-qm", "a change")
    return git(folder, "rev-parse", "--short", "HEAD").strip()


def test_a_run_that_passed_is_kept_with_commit_and_figures(clone: Path) -> None:
    head = commit_of(clone)
    assert staleness("tried") == "never recorded"
    assert record("tried") == 0
    kept = read("tried")
    assert kept is not None
    assert (kept.commit, kept.guards) == (head, ("guarded.py",))
    assert (clone / "tried.json").read_text() == "7"
    assert staleness("tried") is None


def commit_of(folder: Path) -> str:
    return git(folder, "rev-parse", "--short", "HEAD").strip()


def test_a_record_is_stale_once_a_guarded_file_differs(clone: Path) -> None:
    record("tried")
    (clone / "other.py").write_text("2\n")
    commit(clone)
    assert staleness("tried") is None
    (clone / "guarded.py").write_text("2\n")
    last = commit(clone)
    assert f"last by {last}" in (staleness("tried") or "")


def test_a_run_that_failed_leaves_the_former_record(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record("tried")
    before = (clone / "records/tried.json").read_text()
    monkeypatch.setitem(RUNS, "tried", tried("raise SystemExit(3)"))
    assert record("tried") == 3
    assert (clone / "records/tried.json").read_text() == before


def test_a_file_changed_during_the_run_is_not_recorded(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RUNS, "tried", tried("import pathlib; pathlib.Path('guarded.py').write_text('2')"))
    assert record("tried") == 2
    assert read("tried") is None


def test_files_that_no_commit_has_are_not_recorded(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clone / "guarded.py").write_text("3\n")
    assert record("tried") == 2
    assert "guarded.py" in capsys.readouterr().err
    assert read("tried") is None


def test_a_commit_that_this_clone_lacks_is_said(clone: Path) -> None:
    record("tried")
    path = clone / "records/tried.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": "0000000"}))
    assert staleness("tried") == "of commit 0000000, which this clone does not have"


@pytest.mark.parametrize("name", RUNS)
def test_every_run_guards_paths_that_exist(name: str) -> None:
    assert [path for path in RUNS[name].guards if not (ROOT / path).exists()] == []


def test_every_record_is_of_a_known_run() -> None:
    assert {path.stem for path in (ROOT / "benchmarks/records").glob("*.json")} <= RUNS.keys()


def test_no_record_has_the_name_of_a_make_target() -> None:
    """`make record NAME` would make that target too: a release, after the record of one."""
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "release" in targets
    assert RUNS.keys() & set(targets) == set()
