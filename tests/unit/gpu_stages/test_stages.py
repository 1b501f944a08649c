"""Stages on a device of which only the outside is real: each takes its whole way, the unkind turns included."""

import json
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.gpu_stages.job import Unavailable
from benchmarks.gpu_stages.profile_stage import gain
from benchmarks.gpu_stages.record import State
from tests.mock_device import CLIENT_COMMAND
from tests.unit.gpu_stages.conftest import Bench
from tests.unit.gpu_stages.test_conductor import MOCK

pytestmark = pytest.mark.slow
EXPERIMENT = """
import asyncio, os, sys
from pathlib import Path
from benchmarks.gpu_stages.job import Job
from benchmarks.gpu_stages.machine import Kind
from benchmarks.gpu_stages.mps_stage import Bench
from slm_runtime import nvml, processes

name, folder = sys.argv[1:]
processes.adopt_orphans()
with nvml.device() as device:
    job = Job(parent=os.getppid(), kind=Kind.MOCK, seconds=60, folder=folder)
    asyncio.run(job.figure(name, getattr(Bench(device, Path(folder), 0.2), name)))
processes.end_descendants(os.getpid())
"""


def test_mps_is_asked_as_an_ordinary_user(bench: Bench, device: dict[str, str]) -> None:
    bench.have_all_but("mps", machine=MOCK)
    assert bench.run(**device) == 0, bench.said
    kept = bench.found("mps")
    assert (kept.machine["kind"], kept.lacking) == ("mock", {})
    found = kept.figures
    assert found["account"]["uid"] != 0
    assert found["account"]["effective_capabilities"].strip("0") == ""
    assert found["account"]["no_new_privileges"]
    assert set(found["compute_mode"].values()) == {"DEFAULT"}
    assert (found["two_clients"]["attached"], found["two_clients"]["servers"]) == (2, 1)
    assert [one["multiprocessors"] for one in found["two_clients"]["clients"]] == [66, 66]  # half of them
    assert found["server_memory"]["server_bytes"] == 128 * 2**20
    had = [one["had_bytes"] for one in found["shares_of_2"]["clients"]]
    assert had[1] < had[0] < found["shares_of_2"]["limit_bytes"]  # the last client finds less than its share
    assert found["created_memory"]["counts"]
    killed = found["killed_client"]
    assert killed["while_it_is_killed"]["longest_ms"] > 2 * killed["afterwards"]["mean_ms"]
    assert killed["a_new_client"]["multiprocessors"] == 66
    assert found["quit_idle"]["servers_left"] == 0
    assert "MPS_CONNECTION_FAILED" in found["quit_with_client"]["client_afterwards"]["refused"]
    lost = found["killed_control"]
    assert (lost["servers"], lost["a_new_client"]["multiprocessors"]) == (1, 132)  # it came in without MPS
    assert lost["stop"]["servers_left"] == 0
    assert bench.left_behind() == []


def experiment(bench: Bench, device: dict[str, str], name: str, **variables: str) -> dict[str, Any]:
    """One experiment alone, and the line that it says."""
    command = [sys.executable, "-c", EXPERIMENT, name, str(bench.scratch)]
    done = subprocess.run(
        command, env=bench.environment | device | variables, stdout=subprocess.PIPE, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    said: dict[str, Any] = json.loads(line)
    return said


def test_a_daemon_that_refuses_is_the_finding(bench: Bench, device: dict[str, str]) -> None:
    said = experiment(bench, device, "two_clients", MOCK_MPS_REFUSES="1")
    assert (said["lacks"], said["state"]) == ("two_clients", State.FAILED)
    assert "the device is busy or unavailable" in said["why"]


def test_client_ending_with_a_killed_neighbour_is_a_finding(bench: Bench, device: dict[str, str]) -> None:
    killed = experiment(bench, device, "killed_client", MOCK_CUDA_KILL_IS_FATAL="1")["value"]
    assert killed["while_it_is_killed"] == {"refused": "cuCtxSynchronize: CUDA_ERROR_LAUNCH_FAILED"}
    assert killed["afterwards"]["refused"]


def test_a_served_pack_is_killed_in_every_way_and_ended(bench: Bench, device: dict[str, str]) -> None:
    bench.have_all_but("serve", machine=MOCK)
    assert bench.run(engine=CLIENT_COMMAND, **device, ENGINE_BYTES=str(2**30)) == 0, bench.said
    kept = bench.found("serve")
    assert kept.lacking == {}
    found = kept.figures
    assert (found["start"]["mode"], found["start"]["starts"]) == ("MPS", [1, 1])
    taken = [found["start"][f"free_{when}_bytes"] for when in ("before", "with_one", "with_all")]
    assert taken == sorted(taken, reverse=True)
    assert min(found["start"]["resident_bytes"]) > 2**20
    killed = found["killed_engine"]
    assert (killed["errors_of_its_neighbour"], killed["starts"]) == (0, [1, 2])
    assert killed["errors_of_it"] >= 1
    assert killed["its_death"]["class"] == "EngineDied"
    assert (found["killed_control"]["daemon"], found["killed_control"]["lost"]) == ("Orphaned", 0)
    again = found["killed_server"]
    # NB: more than once where another process of this machine took an engine's port while the engine was away.
    assert all(now > was for now, was in zip(again["starts"], killed["starts"], strict=True)), again["deaths"]
    assert (found["end"]["answered"], found["end"]["exit_status"]) == (found["end"]["in_flight"], 0)
    assert bench.left_behind() == []


def test_a_profile_that_is_cut_short_has_reported_its_points(bench: Bench, device: dict[str, str]) -> None:
    bench.have_all_but("packs", machine=MOCK)
    assert bench.run({"  points": "over"}, LD_LIBRARY_PATH=device["LD_LIBRARY_PATH"]) == 1, bench.said
    kept = bench.found("packs")
    assert (kept.machine["kind"], kept.complete) == ("mock", False)
    assert kept.incomplete_because
    assert "s were over" in kept.incomplete_because
    points = kept.figures["points"]
    assert (points[0]["b"], points[0]["r"], points[0]["mean_power_watts"]) == (1, 1, 250)
    assert kept.figures["ledger"]["kv_bytes_per_token"] == 2 * 4 * 256 * 2  # key and value, layers, width, bfloat16
    assert kept.figures["cost"]["engine_starts"] == 1  # of the document that the profile writes at its end
    assert kept.lacking["gain"].state is State.NOT_AVAILABLE
    assert kept.figures["notes"] == [
        "nvidia-cuda-mps-control is not in PATH: packs are measured under time slicing only"
    ]
    assert bench.left_behind() == []


GAINS = [
    ("a pack that wins", [(1, 100, ()), (2, 150, ())], 0.5),
    ("a pack that loses", [(1, 100, ()), (2, 80, ()), (4, 50, ())], -0.2),
    (
        "points that are doubted",
        [(1, 100, ()), (1, 400, ("Preempted",)), (2, 120, ()), (2, 300, ("Errors", "Wide"))],
        0.2,
    ),
    ("only single engines", [(1, 100, ()), (1, 200, ())], None),
    ("only doubted packs", [(1, 100, ()), (2, 200, ("Throttled",)), (2, 300, ("Wide",))], None),
]


@pytest.mark.parametrize(("name", "points", "fraction"), GAINS, ids=[case[0] for case in GAINS])
def test_the_gain_is_that_of_undoubted_points(name: str, points: list[Any], fraction: float | None) -> None:
    rows = [{"r": r, "tokens_per_second": speed, "marks": marks} for r, speed, marks in points]
    if fraction is None:
        with pytest.raises(Unavailable, match="without a doubt"):
            gain(rows)
    else:
        assert gain(rows)["gain_fraction"] == pytest.approx(fraction)


def test_stage_without_a_device_reports_no_figure(bench: Bench) -> None:
    bench.have_all_but("mps")
    assert bench.run() == 0
    kept = bench.found("mps")
    assert (kept.machine["kind"], kept.machine["driver"]) == ("cpu", None)
    assert set(kept.figures) == {"account"}
    assert {lack.state for lack in kept.lacking.values()} == {State.NOT_AVAILABLE}
    assert len(kept.lacking) == 11
