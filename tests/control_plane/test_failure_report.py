"""A failed test shows its cluster and the end of the logs. Needs no cluster: the report reads a folder and asks kubectl."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.cluster import LOG_TAIL_LINES

FAILING_TEST = """
import pathlib, types, pytest

def kubectl(verb, kind, *_, timeout_s):
    return verb + " " + kind + " was answered\\n"

@pytest.fixture
def control_plane():
    return types.SimpleNamespace(logs=pathlib.Path({logs!r}), kubectl=kubectl)

def test_that_fails(control_plane):
    assert False

def test_that_passes(control_plane):
    pass
"""


@pytest.mark.slow
def test_failed_test_shows_its_cluster_and_each_log_tail(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "etcd.log").write_text("".join(f"line {number}\n" for number in range(100)))
    test = tmp_path / "test_failing.py"
    test.write_text(FAILING_TEST.format(logs=str(logs)))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-c",
        "/dev/null",
        "--rootdir",
        tmp_path,
        "-p",
        "tests.conftest",
        test,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    _, _, shown = done.stdout.partition("log of etcd, its end")
    assert "line 99\n" in shown
    assert f"line {99 - LOG_TAIL_LINES}\n" not in shown
    assert "get pods was answered" in shown
    assert str(logs) in shown
