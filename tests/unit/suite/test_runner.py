"""The runner of `make test`: every stage runs, whatever fails is named with its log, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.suite import marks
from tests.suite.runner import run_all
from tests.suite.stages import Stage
from tests.suite.summary import summary

if TYPE_CHECKING:
    from tests.suite.runner import Run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
CONFTEST = "tests.conftest"
PASSES = "def test_adds():\n    assert 1 + 1 == 2\n"
FAILS = "def test_breaks():\n    assert 1 + 1 == 3\n"
NOTES = "def test_is_timed(record_property):\n    record_property('note', 'ready after 6.1 s')\n"
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
LEAVES = f"import subprocess\n\ndef test_forgets():\n    subprocess.Popen({SLEEPER}, start_new_session=True)\n"
HANGS = f"import subprocess\n\ndef test_hangs():\n    subprocess.Popen({SLEEPER})\n    subprocess.run({SLEEPER})\n"
ASKS = "import signal\n\ndef test_asks():\n    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_CACHE", str(tmp_path / "a cache"))


def stage(folder: Path, name: str, test: str, plugin: str = "tests.suite.reporting") -> Stage:
    """A stage of one file of tests. With CONFTEST as its plugin it is one of this project's, and slower to begin."""
    file = folder / f"test_{name}.py"
    file.write_text(test)
    settings = ("-c", os.devnull, "--rootdir", str(folder), "-p", plugin, "-W", "ignore")
    quick = () if plugin == CONFTEST else ("env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1")
    return Stage(name, (*quick, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *settings, str(file)))


async def run(*lanes: list[Stage]) -> tuple[Run, str]:
    done = await run_all(lanes, lambda _: None)
    return done, "\n".join(summary(done.outcomes, 1.0))


async def test_a_stage_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    done, said = await run([stage(tmp_path, "first", FAILS), stage(tmp_path, "second", PASSES)])
    assert [(one.stage.name, one.ok) for one in done.outcomes] == [("first", False), ("second", True)]
    assert "test_first.py::test_breaks" in said
    assert "assert (1 + 1) == 3" in said
    assert str(done.outcomes[0].log) in said
    assert said.endswith("\n1 passed, 1 failed")


async def test_a_program_that_is_missing_stops_no_other_stage(tmp_path: Path) -> None:
    done, said = await run([Stage("missing", ("/no/such/program",)), stage(tmp_path, "second", PASSES)])
    assert [one.ok for one in done.outcomes] == [False, True]
    assert "/no/such/program cannot be started: No such file or directory" in said


async def test_note_of_a_test_is_printed_and_not_judged(tmp_path: Path) -> None:
    done, said = await run([stage(tmp_path, "timed", NOTES)])
    assert done.outcomes[0].ok
    assert "test_is_timed: ready after 6.1 s" in said


async def test_a_process_left_behind_is_ended_and_fails_its_stage(tmp_path: Path) -> None:
    done, said = await run([stage(tmp_path, "leaves", LEAVES)])
    (outcome,) = done.outcomes
    assert (outcome.passed, outcome.ok) == (1, False)
    assert "left behind, and ended now" in said
    assert "test_leaves.py::test_forgets" in said
    assert marks.started_by(marks.STAGE, f"{done.token}/leaves") == []


async def test_a_test_ended_by_its_limit_takes_what_it_started_along(tmp_path: Path) -> None:
    limited = stage(tmp_path, "hangs", f"import pytest\npytestmark = pytest.mark.timeout(2)\n{HANGS}", CONFTEST)
    done, _ = await run([limited])
    (outcome,) = done.outcomes
    assert [one["test"].rpartition("::")[2] for one in outcome.failures] == ["test_hangs"]
    assert outcome.left_behind == []


async def test_a_file_that_cannot_be_read_is_a_failure_with_its_name(tmp_path: Path) -> None:
    done, said = await run([stage(tmp_path, "unreadable", "import nothing_of_this_name\n")])
    assert not done.outcomes[0].ok
    assert "nothing_of_this_name" in said


async def test_failed_command_without_tests_shows_its_log_tail(tmp_path: Path) -> None:
    says = Stage("says", (sys.executable, "-c", "raise SystemExit('no Go in PATH')"))
    _, said = await run([says])
    assert "no Go in PATH" in said
    assert said.endswith("0 passed, 1 failed")


DRIVER = """
import asyncio, sys
sys.path[:0] = [{root!r}]
from tests.suite.runner import run_all
from tests.suite.stages import Stage
from tests.suite.summary import summary

def say(line):
    print(line, flush=True)

done = asyncio.run(run_all([[Stage({name!r}, {command!r})]], say))
print(*summary(done.outcomes, 1.0), sep="\\n")
"""


def driver(made: Stage) -> list[str]:
    code = DRIVER.format(root=str(ROOT), name=made.name, command=made.command)
    return [sys.executable, "-c", textwrap.dedent(code)]


def ignore_all() -> None:
    """What nohup and a script's `&` do."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def test_signals_that_a_script_ignores_are_heard_again_in_tests(tmp_path: Path) -> None:
    command = driver(stage(tmp_path, "asks", ASKS, CONFTEST))
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=ignore_all,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.rstrip().endswith("1 passed, 0 failed"), done.stdout + done.stderr


def test_a_run_that_is_asked_to_end_ends_its_stages_and_says_so(tmp_path: Path) -> None:
    begun = tmp_path / "begun"  # to open it waits until somebody opens its other end
    os.mkfifo(begun)
    hangs = HANGS.replace("subprocess.run", f"open({str(begun)!r}, 'w').close(); subprocess.run")
    made = stage(tmp_path, "hangs", hangs, CONFTEST)
    with subprocess.Popen(driver(made), cwd=tmp_path, stdout=subprocess.PIPE, text=True) as running:
        begun.read_text()
        running.send_signal(signal.SIGTERM)
        assert running.stdout is not None
        said = running.stdout.read()
    assert "ended from outside" in said
    assert said.rstrip().endswith("0 passed, 1 failed")
    assert str(made.command[-1]) not in "".join(commands())


def commands() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found
