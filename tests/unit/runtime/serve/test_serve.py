"""A pack of real processes, and everything that may befall it, on the CPU and on a mock GPU."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from slm_core.failure import EXIT_STATUS, Failure
from slm_core.pack_pod import read_termination

from tests.mock_device import LIGHT
from tests.unit.runtime.serve.conftest import GIB, Serve, processes_of

pytestmark = pytest.mark.slow
SLICED = ("--device", "cpu", "--sharing-mode", "time-slicing")
MPS = ("--device", "gpu", "--sharing-mode", "mps")
LONG = 400
"""Tokens of a request that lasts until something has happened to its engine."""
STEP = {"LIGHT_ENGINE_STEP_MS": "5"}


async def test_the_first_engine_starts_alone_then_the_rest(
    serve: Serve, record_property: Callable[[str, str], None]
) -> None:
    async with serve(*SLICED, engines=3) as pack:
        said = [await pack.says(text) for text in ("engine 0 serves", "engine 1 starts", "engine 2 starts")]
        assert said[0].endswith("1 of 3 do")
        assert (await pack.get("/readyz"))[0] == 200
        said += [await pack.says("serves"), await pack.says("serves")]
        await pack.serves(3)
        status = await pack.status()
        assert (status["state"], status["enginesNotReady"]) == ("Serving", 0)
        assert [await pack.ask(engine, tokens=4) for engine in range(3)] == [200] * 3
        record_property(
            "note", f"pack of 3 light engines: {[line for line in pack.lines if 'after its start' in line]}"
        )
    assert pack.process.returncode == 0


async def test_each_line_says_whose_it_is(serve: Serve) -> None:
    async with serve(*SLICED) as pack:
        await pack.serves(2)
    assert all(re.match(r"\[(pack|engine [01])\] ", line) for line in pack.lines)
    assert any(line.startswith("[engine 1] (APIServer") for line in pack.lines)


async def test_an_engines_folder_leaves_room_for_its_sockets(serve: Serve, scratch: Path) -> None:
    async with serve(*SLICED) as pack:
        folder = Path((await pack.says("[engine 1] folder: ")).rpartition(" ")[2])
    assert len(str(folder.relative_to(scratch))) <= len("slm-engine-") + 8  # as while it is measured


async def test_readiness_needs_one_engine_and_liveness_none(serve: Serve) -> None:
    async with serve(*SLICED, LIGHT_ENGINE_FAULT="never-healthy") as pack:
        await pack.says("engine 0 starts")
        await pack.shows(lambda status: status["engines"][0]["phase"] == "Starting")
        assert (await pack.get("/healthz"))[0] == 200
        assert await pack.get("/readyz") == (503, "0 of 2 engines serve\n")
        status = await pack.status()
        assert (status["state"], status["enginesNotReady"]) == ("Starting", 2)
        assert status["engines"][1]["waitsFor"] == "the first engine, which fills the caches for all"
        async with pack.session.post(f"http://127.0.0.1:{pack.status_port}/status") as refused:
            assert refused.status == 405


async def test_metrics_come_without_an_engine_that_answers_nothing(serve: Serve) -> None:
    async with serve(*SLICED, TEST_METRICS_SECONDS="0.5") as pack:
        await pack.serves(2)
        os.kill(await pack.pid(1), signal.SIGSTOP)
        pages = await asyncio.gather(*(pack.get("/metrics") for _ in range(3)))
        os.kill(await pack.pid(1), signal.SIGCONT)
        for status, page in pages:
            assert status == 200
            assert 'slm_pack_engine_up{engine="0"} 1\nslm_pack_engine_up{engine="1"} 0\n' in page
            assert 'vllm:num_requests_running{engine="0",' in page
            assert 'vllm:num_requests_running{engine="1",' not in page


async def test_metrics_beyond_their_bound_are_left_out(serve: Serve) -> None:
    async with serve(*SLICED, TEST_METRICS_BYTES="1000") as pack:
        await pack.serves(2)
        status, page = await pack.get("/metrics")
        assert status == 200
        assert 'slm_pack_engine_up{engine="0"} 0\nslm_pack_engine_up{engine="1"} 0\n' in page
        assert 'slm_pack_engine_ready{engine="1"} 1\n' in page
        assert "vllm:" not in page


async def test_an_engine_killed_under_load_costs_its_neighbour_nothing(
    serve: Serve, record_property: Callable[[str, str], None]
) -> None:
    async with serve(*SLICED, **STEP) as pack:
        await pack.serves(2)
        asked = [asyncio.create_task(pack.ask(engine, LONG)) for engine in (0, 1) for _ in range(6)]
        await pack.runs(0, 6)
        await pack.runs(1, 6)
        await pack.kill(1)
        await pack.says("engine 1 failed")
        again = await pack.says("engine 1 serves")
        answers = await asyncio.gather(*asked)
        assert answers == [200] * 6 + [0] * 6
        assert await pack.ask(1, tokens=4) == 200
        status = await pack.status()
        assert [one["starts"] for one in status["engines"]] == [1, 2]
        assert status["engines"][1]["lastDeath"]["class"] == Failure.DIED
        assert "SIGKILL" in status["engines"][1]["lastDeath"]["message"]
        record_property("note", f"restart of a killed light engine: {again}")


@pytest.mark.usefixtures("gpu")
async def test_an_engine_starts_again_only_once_memory_is_free(serve: Serve, gpu: Path) -> None:
    async with serve("--device", "gpu", "--sharing-mode", "time-slicing") as pack:
        await pack.serves(2)
        held = gpu / str(os.getpid())  # as a driver that is not done with a process
        held.write_text(str(6 * GIB))
        await pack.kill(1)
        waits = await pack.shows(lambda status: status["engines"][1]["waitsFor"] is not None)
        assert re.fullmatch(r"\d+ bytes of the device's memory, of which \d+ are free", waits["engines"][1]["waitsFor"])
        assert (waits["engines"][1]["starts"], waits["enginesReady"], waits["state"]) == (1, 1, "Degraded")
        assert not any("engine 1 starts on" in line for line in pack.lines[pack.heard :] if "start 2" in line)
        held.unlink()
        await pack.says("start 2")
        await pack.serves(2)


async def test_an_engine_in_a_crash_loop_leaves_the_others_serving(serve: Serve, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    # The second engine ends at its start for as long as the file is there.
    command = f'case "$*" in *"--port $BROKEN_PORT "*) [ ! -e {broken} ] || exit 3;; esac; exec "$@"'
    broken.touch()
    async with serve(
        *SLICED, command=("sh", "-c", f"BROKEN_PORT=$(cat {tmp_path}/port); {command}", "engine", *LIGHT)
    ) as pack:
        (tmp_path / "port").write_text(str(pack.first_port + 1))
        await pack.says("engine 0 serves")
        for start in ("start 2", "start 3", "start 4"):
            await pack.says(start)
        assert await pack.ask(0, tokens=4) == 200
        status = await pack.status()
        assert (status["enginesReady"], status["enginesNotReady"], status["state"]) == (1, 1, "Degraded")
        assert status["engines"][1]["failuresInRow"] >= 3
        broken.unlink()
        await pack.serves(2)


@pytest.mark.usefixtures("gpu")
async def test_engines_of_an_mps_pack_have_their_limits(serve: Serve) -> None:
    async with serve(*MPS) as pack:
        await pack.serves(2)
        assert (await pack.status())["daemon"] == "Running"
    assert [line for line in pack.lines if "limits: " in line] == [
        "[engine 0] limits: 0=8192M 50",
        "[engine 1] limits: 0=8192M 50",
    ]
    given = ("--memory-limit-bytes", str(6 * GIB), "--active-thread-percentage", "70")
    async with serve(*MPS, *given) as pack:
        await pack.says("[engine 0] limits: 0=6144M 70")


def mps_pids(scratch: Path) -> tuple[int, int]:
    """The control process's and the server's."""
    (pipe,) = scratch.glob("slm-pack-*/slm-mps-*/pipe")
    return int((pipe / "nvidia-cuda-mps-control.pid").read_text()), int((pipe / "server").read_text())


async def test_a_dead_mps_server_is_everybodys_and_all_start_anew(serve: Serve, gpu: Path, scratch: Path) -> None:
    async with serve(*MPS) as pack:
        await pack.serves(2)
        _, server = mps_pids(scratch)
        os.kill(server, signal.SIGKILL)
        await pack.says("the MPS server is lost to all engines")
        for said in ("the MPS daemon is ended", "the MPS daemon starts", "the MPS daemon runs", "start 2"):
            await pack.says(said)
        await pack.serves(2)
        status = await pack.status()
        assert [one["failuresInRow"] for one in status["engines"]] == [0, 0]
        assert mps_pids(scratch)[1] != server


async def test_a_dead_engine_under_mps_is_its_own_matter(serve: Serve, gpu: Path, scratch: Path) -> None:
    async with serve(*MPS) as pack:
        await pack.serves(2)
        before = mps_pids(scratch)
        neighbour = await pack.pid(0)
        await pack.kill(1)
        await pack.says("engine 1 serves")
        assert mps_pids(scratch) == before
        assert await pack.pid(0) == neighbour


async def test_engines_outlive_the_mps_control_process(serve: Serve, gpu: Path, scratch: Path) -> None:
    async with serve(*MPS) as pack:
        await pack.serves(2)
        control, _ = mps_pids(scratch)
        os.kill(control, signal.SIGKILL)
        await pack.says("the MPS control process is gone")
        assert [await pack.ask(engine, tokens=4) for engine in (0, 1)] == [200, 200]
        await pack.kill(1)  # now one has to start: all of them go, and come with a new daemon
        await pack.says("engine 0 is ended and may drain")
        await pack.says("the MPS daemon runs")
        await pack.serves(2)


async def test_neighbours_that_compute_nothing_have_lost_their_server(serve: Serve, gpu: Path, scratch: Path) -> None:
    # As after a fatal fault: the server is there, and takes no client before the former ones have gone.
    async with serve(*MPS) as pack:
        await pack.serves(2)
        before = mps_pids(scratch)
        os.kill(await pack.pid(0), signal.SIGSTOP)
        await pack.kill(1)
        await pack.says("the MPS server is lost to all engines")
        await pack.says("the MPS daemon runs")
        await pack.serves(2)
        assert mps_pids(scratch) != before


@pytest.mark.usefixtures("gpu")
async def test_an_engine_that_does_not_attach_does_not_serve(serve: Serve) -> None:
    async with serve(*MPS, command=LIGHT) as pack:
        await pack.says("SharingUnavailable: 0 of 1 engines are attached to the MPS daemon")
        await pack.says("the MPS daemon runs")
        assert (await pack.status())["enginesReady"] == 0


async def test_a_server_lets_go_of_an_engine_before_it_is_killed(serve: Serve, gpu: Path) -> None:
    async with serve(*MPS, "--grace-seconds", "31", LIGHT_ENGINE_FAULT="ignores-sigterm") as pack:
        await pack.serves(2)
        pids = {await pack.pid(0), await pack.pid(1)}
        pack.process.terminate()
        assert await pack.ended() == 0
    assert {int(line.split()[1]) for line in (gpu / "let-go").read_text().splitlines()} == pids


async def test_a_sigterm_under_load_loses_no_request(serve: Serve) -> None:
    async with serve(*SLICED, **STEP) as pack:
        await pack.serves(2)
        asked = [asyncio.create_task(pack.ask(engine, LONG)) for engine in (0, 1) for _ in range(8)]
        await pack.runs(0, 8)
        await pack.runs(1, 8)
        pack.process.terminate()
        await pack.says("the end was asked for")
        assert (await pack.get("/readyz"))[0] == 503
        assert (await pack.get("/healthz"))[0] == 200
        assert await asyncio.gather(*asked) == [200] * 16
        assert await pack.ended() == 0


async def test_orphans_of_an_engine_are_waited_for(serve: Serve, tmp_path: Path) -> None:
    # Its child's child, which outlives the child, and then ends.
    orphan = f'sh -c "sh -c \\"echo \\\\$\\\\$ > {tmp_path}/orphan; read _ < {tmp_path}/end\\" &"'
    os.mkfifo(tmp_path / "end")
    async with serve(*SLICED, engines=2, command=("sh", "-c", f'{orphan}; exec "$@"', "engine", *LIGHT)) as pack:
        await pack.serves(2)
        pid = int((tmp_path / "orphan").read_text())
        assert f"PPid:\t{pack.process.pid}\n" in Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240 - in memory
        with (tmp_path / "end").open("w"):
            pass
        async with asyncio.timeout(60):
            while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110, ASYNC240 - another process's life
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("whom", ["the first process", "the supervisor"])
async def test_nothing_outlives_a_pack_that_is_killed(whom: str, serve: Serve, gpu: Path, scratch: Path) -> None:
    async with serve(*MPS) as pack:
        await pack.serves(2)
        first = pack.process.pid
        (supervisor,) = map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())  # noqa: ASYNC240
        os.kill(first if whom == "the first process" else supervisor, signal.SIGKILL)
        await pack.ended()
        async with asyncio.timeout(60):
            while processes_of(scratch.name):  # noqa: ASYNC110 - other processes' lives
                await asyncio.sleep(0.05)
        if whom == "the first process":
            for left in scratch.iterdir():  # noqa: ASYNC240 - nobody was there to remove it
                assert left.name.startswith("slm-pack-")
                left.rmdir()


REFUSED = [
    ("a-model-that-is-not-there", (*MPS, "--model", "/nowhere"), {}, "no such folder", EXIT_STATUS[Failure.MODEL]),
    ("no-mps-without-a-gpu", ("--device", "cpu", "--sharing-mode", "mps"), {}, "needs a GPU", 2),
    ("no-sharing-mode", ("--device", "cpu"), {}, "cannot have a GPU with no sharing", 2),
    ("another-gpu", (*MPS, "--gpu-product", "Mock-GPU-80GB"), {}, "was asked for and this is", EXIT_STATUS[Failure.GPU_NOT_AS_ASKED]),
    ("another-memory", (*MPS, "--gpu-memory-bytes", str(80 * GIB)), {}, "81920 MiB of memory were promised", EXIT_STATUS[Failure.GPU_NOT_AS_ASKED]),
    ("a-gpu-in-use", MPS, {"MOCK_NVML_USED": str(GIB)}, "are in use before", EXIT_STATUS[Failure.GPU_SHARED]),
    ("a-slice", MPS, {"MOCK_NVML_MIG": "1"}, "is in MIG mode", EXIT_STATUS[Failure.GPU_PARTITIONED]),
    ("an-exclusive-gpu", MPS, {"MOCK_NVML_COMPUTE_MODE": "3"}, "EXCLUSIVE_PROCESS", EXIT_STATUS[Failure.GPU_COMPUTE_MODE]),
    ("an-mps-that-refuses", MPS, {"MOCK_MPS_REFUSES": "1"}, "busy or unavailable", EXIT_STATUS[Failure.SHARING]),
    ("limits-beyond-the-gpu", (*MPS, "--memory-limit-bytes", str(9 * GIB)), {}, "are more than the", 2),
]  # fmt: skip


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", REFUSED, ids=[case[0] for case in REFUSED])
async def test_what_cannot_work_is_said_before_an_engine_starts(
    case: tuple[str, tuple[str, ...], dict[str, str], str, int], serve: Serve, tmp_path: Path
) -> None:
    _, words, board, said, status = case
    last_word = tmp_path / "termination-log"
    async with serve(*words, "--termination-message-file", str(last_word), **board) as pack:
        assert await pack.ended() == status
    word = read_termination(last_word.read_text())
    assert word
    assert said in word.message
    assert word.remedy
    assert status == (2 if word.reason is Failure.ARGUMENTS else EXIT_STATUS[word.reason])
    text = "\n".join(pack.lines)
    assert said in text
    assert "  -> " in text
    assert not any("engine 0 starts" in line for line in pack.lines)


async def test_an_engine_that_refuses_its_words_ends_the_pack(serve: Serve) -> None:
    async with serve(*SLICED, command=(*LIGHT, "--nonsense")) as pack:
        assert await pack.ended() == EXIT_STATUS[Failure.ARGUMENTS]
    assert any("unrecognized arguments" in line for line in pack.lines)


async def test_a_port_that_is_taken_is_named(serve: Serve) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        async with serve(*SLICED, "--port", port) as pack:
            assert await pack.ended() == EXIT_STATUS[Failure.PORT]
    assert any(f"listens already on port {port}" in line for line in pack.lines)
