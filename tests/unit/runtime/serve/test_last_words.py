"""What a pack leaves to whoever comes after it: its last word, and what its successor knows of one that was killed whole."""

import contextlib
import json
import os
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from slm_core.failure import EXIT_STATUS, Failure
from slm_core.pack_pod import read_termination
from slm_runtime.processes import identity_of
from slm_runtime.serve.files import boot_id, read_former, remember, remove_left
from slm_runtime.serve.memory import Ending, Remembered, ending_of

from tests.mock_device import LIGHT
from tests.unit.runtime.serve.conftest import GIB, Serve, processes_of

SLICED = ("--device", "cpu", "--sharing-mode", "time-slicing")
FORMER = Remembered(
    boot="this", pid=1, started=0, scratch="/s", is_ending=False, served=3, engines=3, used_bytes=95, limit_bytes=100
)
GROWS = """
python3 -c 'import mmap, os, time
with open("{shared}", "w+b") as file:
    file.truncate(4096)
    kept = mmap.mmap(file.fileno(), 4096)
open("{folder}/has-mapped", "w")
time.sleep(1000)' &
while [ ! -e {folder}/has-mapped ]; do sleep 0.02; done
case "$*" in *"--port $(cat {folder}/port) "*) (
  while [ ! -e {folder}/grow ]; do sleep 0.05; done
  exec python3 -c 'import time; kept = b"x" * (300 << 20); open("{folder}/has-grown", "w"); time.sleep(1000)'
) & esac
exec "$@"
"""


@pytest.mark.slow
async def test_pack_killed_whole_is_known_to_its_successor(serve: Serve, tmp_path: Path, scratch: Path) -> None:
    state, last_word = tmp_path / "state", tmp_path / "termination-log"
    files = ("--state-file", str(state), "--termination-message-file", str(last_word))
    (tmp_path / "memory.max").write_text(str(4 * GIB))
    (tmp_path / "memory.stat").write_text(f"anon {GIB}\nshmem 0\n")
    shared = Path("/dev/shm", scratch.name)
    command = ("sh", "-c", GROWS.format(folder=tmp_path, shared=shared), "engine", *LIGHT)
    async with serve(*SLICED, *files, engines=3, command=command, TEST_CGROUP=str(tmp_path)) as pack:
        (tmp_path / "port").write_text(str(pack.first_port + 1))
        await pack.serves(3)
        (tmp_path / "grow").touch()
        (tmp_path / "memory.stat").write_text(f"anon {3 * GIB}\nshmem {GIB - 1}\n")
        grown = await pack.shows(
            lambda status: status["memory"]["grownMost"] == 1 and status["engines"][1]["grownBytes"] > 250 * 2**20
        )
        assert max(one["grownBytes"] for one in grown["engines"] if one["index"] != 1) < 100 * 2**20
        await pack.shows(lambda _: json.loads(state.read_text()).get("usedBytes", 0) > 3 * GIB)
        assert shared.exists()  # noqa: ASYNC240 - in memory
        kill_whole(scratch.name)
        await pack.ended()
    word = read_termination(last_word.read_text())
    assert word
    assert (word.reason, word.engine, word.served) == (Failure.HOST_MEMORY, 1, 3)
    assert word.limit_bytes == 4 * GIB
    assert word.message.startswith("engine 1 had grown most, by 0.2 GiB to ")

    async with serve(*SLICED, *files, engines=3, TEST_CGROUP=str(tmp_path)) as pack:
        await pack.says("a pack of 3 engines was here, of which 3 served: the kernel killed all of it")
        await pack.serves(3)
        former = (await pack.status())["former"]
        assert (former["ending"], former["grownMost"], former["served"]) == ("OutOfMemory", 1, 3)
        assert len(list(scratch.glob("slm-pack-*"))) == 1  # noqa: ASYNC240 - what was left is gone
        assert not shared.exists()  # noqa: ASYNC240 - in memory
    assert not state.exists()
    assert last_word.read_text() == ""


def kill_whole(mark: str) -> None:
    """As the kernel ends a container: nobody sees another's end."""
    pids = [int(one.split()[0]) for one in processes_of(mark)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@pytest.mark.slow
async def test_failure_that_ends_a_pack_is_its_last_word(serve: Serve, tmp_path: Path) -> None:
    last_word = tmp_path / "termination-log"
    files = ("--state-file", str(tmp_path / "state"), "--termination-message-file", str(last_word))
    async with serve(*SLICED, *files, command=(*LIGHT, "--nonsense")) as pack:
        assert await pack.ended() == EXIT_STATUS[Failure.ARGUMENTS]
    word = read_termination(last_word.read_text())
    assert word
    assert (word.reason, word.engine) == (Failure.ARGUMENTS, None)
    assert "unrecognized arguments" in word.message
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
async def test_files_that_cannot_be_written_cost_nothing_else(serve: Serve) -> None:
    files = ("--state-file", "/proc/nowhere/state", "--termination-message-file", "/proc/nowhere/log")
    async with serve(*SLICED, *files) as pack:
        await pack.serves(2)
    assert pack.process.returncode == 0


ENDINGS: dict[str, tuple[dict[str, Any], str, Ending]] = {
    "memory-used-up": ({}, "this", Ending.OUT_OF_MEMORY),
    "memory-left": ({"used_bytes": 80}, "this", Ending.KILLED),
    "another-start-of-the-machine": ({}, "that", Ending.MACHINE_RESTARTED),
    "while-it-was-ending": ({"is_ending": True}, "this", Ending.OVERDUE),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_ending_is_told_by_what_was_kept(case: str) -> None:
    changed, boot, ending = ENDINGS[case]
    assert ending_of(replace(FORMER, **changed), boot) is ending


@pytest.mark.parametrize("text", ["", "{}", "null", '{"boot": 7}', "[" * 9000, "\x00"])
def test_state_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_text(text)
    assert read_former(tmp_path / "state") is None


def test_files_of_others_are_not_removed_by_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "slm-pack-own"))
    mine = tmp_path / "mine"
    mine.touch()
    for name in ("slm-pack-own", "slm-pack-former", "somebodys"):
        (tmp_path / name).mkdir()
    shared = f"/dev/shm/../..{mine}\n{mine}\n/dev/shm/\n"
    for name in ("slm-pack-own", "slm-pack-former", "somebodys", "..", "slm-pack-former/../somebodys"):
        remove_left(replace(FORMER, scratch=str(tmp_path / name), shared=shared))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "slm-pack-own", "somebodys"]


def test_state_of_a_pack_that_lives_is_not_a_former_ones(tmp_path: Path) -> None:
    living = identity_of(os.getpid())
    assert living
    here = replace(FORMER, boot=boot_id(), pid=living.pid, started=living.started)
    remember(tmp_path / "state", here)
    assert read_former(tmp_path / "state") is None
    remember(tmp_path / "state", replace(here, started=1))
    assert read_former(tmp_path / "state") is not None
