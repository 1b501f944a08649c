"""Programs are built once per pinned version, whole or not at all. A stand-in for `go` shows what is asked of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed import gotools

FAKE_GO = """#!/bin/sh
echo "$@" >> "$GO_CALLS"
echo k8s.io/some/package
if [ -n "$GO_FAILS" ]; then echo "main.go:1:1: no such thing" >&2; exit 1; fi
while [ "$1" != -o ]; do shift; done
echo program > "$2"
"""


@pytest.fixture
def go_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that only writes down its arguments, in front of PATH; an empty cache; a copy of the modules."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(FAKE_GO)
    go.chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    monkeypatch.setenv("PATH", f"{go.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("GO_CALLS", str(calls))
    monkeypatch.setenv("SLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(gotools, "TOOLS_DIR", Path(shutil.copytree(gotools.TOOLS_DIR, tmp_path / "tools")))
    return calls


def test_a_program_is_built_once_and_reports_its_version(go_calls: Path) -> None:
    first, second = gotools.binary("kwok"), gotools.binary("kwok")
    assert first == second
    assert first.read_text() == "program\n"
    (call,) = go_calls.read_text().splitlines()
    assert call.startswith("build -trimpath ")
    assert "-X sigs.k8s.io/kwok/pkg/consts.Version=v0.7.0" in call
    assert call.endswith("sigs.k8s.io/kwok/cmd/kwok")


def test_a_changed_pin_is_another_program(go_calls: Path) -> None:
    former = gotools.binary("kwok")
    with (gotools.TOOLS_DIR / "kwok" / "go.sum").open("a") as sums:
        sums.write("example.org/more v1.0.0 h1:abc=\n")
    assert gotools.binary("kwok") != former
    assert len(go_calls.read_text().splitlines()) == 2


def test_a_failed_build_says_what_go_said_and_leaves_nothing(go_calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_FAILS", "yes")
    with pytest.raises(gotools.BuildError, match=r"kwok failed \(1\) in .*:\nmain.go:1:1: no such thing\n$"):
        gotools.binary("kwok")
    assert [path.name for path in (gotools.cache_dir() / "go-tools").iterdir()] == ["kwok.lock"]


def test_two_builders_at_once_build_once(go_calls: Path) -> None:
    script = "import sys; from tests.testbed.gotools import binary; print(binary('kwok'))"
    runs = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    paths = {run.communicate(timeout=300)[0] for run in runs}
    assert len(paths) == 1
    assert len(go_calls.read_text().splitlines()) == 1


@pytest.mark.usefixtures("go_calls")
def test_without_go_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(gotools.BuildError, match=r"kwok must be built.*install Go"):
        gotools.binary("kwok")


def test_an_unknown_program_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no Go tool named 'docker'; known are kubeadm, .*helm-unittest"):
        gotools.binary("docker")
