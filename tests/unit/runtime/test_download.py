"""What is reported of a model that an engine is downloading: what lies on the disk, and nothing else."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from slm_core.failure import Failure, ProfileError
from slm_core.measurements import Point
from slm_core.search.steps import Measure
from slm_runtime import cli
from slm_runtime.download import bytes_on_disk, follow_download, hub_folder
from slm_runtime.rig import EngineRig

FOLDERS = {
    "as the hub's client does by itself": ({"HOME": "/tmp"}, "/tmp/.cache/huggingface/hub"),
    "a home of its own, on a claim": ({"HF_HOME": "/hub", "HOME": "/tmp"}, "/hub/hub"),
    "a cache of its own": ({"HF_HUB_CACHE": "/cache", "HF_HOME": "/hub"}, "/cache"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_hub_clients_folder_of_a_model(case: str) -> None:
    environment, cache = FOLDERS[case]
    assert hub_folder("facebook/opt-125m", environment) == Path(cache) / "models--facebook--opt-125m"


@pytest.mark.parametrize("model", ["/models/opt", "./opt", "s3://models/opt"])
def test_download_of_no_hub_model_is_not_followed(model: str) -> None:
    assert hub_folder(model, {}) is None
    asyncio.run(follow_download(model, {}, pytest.fail))


def test_partial_files_count_as_far_as_they_are_written(tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    assert bytes_on_disk(tmp_path) == 0
    blobs.mkdir()
    (blobs / "whole").write_bytes(b"x" * 8192)
    with (blobs / "part.incomplete").open("wb") as partial:
        partial.write(b"x" * 4096)
        partial.truncate(1 << 30)  # the length that it will have
    assert bytes_on_disk(tmp_path) == 8192 + 4096


ENGINE = """
import sys, pathlib, time
root = pathlib.Path(sys.argv[1])
blobs = root / "models--a--b" / "blobs"
blobs.mkdir(parents=True)
for number in (1, 2):
    (blobs / f"file-{number}").write_bytes(b"x" * (16 << 20))
    while not (root / f"seen-{number}").exists():
        time.sleep(0.02)
sys.exit("no more")
"""


def test_a_profile_tells_what_its_first_engine_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def looked(folder: Path) -> int:
        here = bytes_on_disk(folder)
        for number in range(1, (here >> 24) + 1):
            (tmp_path / f"seen-{number}").touch()
        return here

    monkeypatch.setattr("slm_runtime.download.bytes_on_disk", looked)
    monkeypatch.setattr("slm_runtime.download.EVERY_SECONDS", 0.02)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    words = ["profile", "--model", "a/b", "--input-tokens", "8", "--output-tokens", "8", "--max-batch-size", "8"]
    assert cli.main([*words, "--", sys.executable, "-c", ENGINE, str(tmp_path)]) != 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    reported = [one["message"] for one in said if one.get("phase") == "Starting" and "download" in one["message"]]
    assert reported[0].startswith("downloading a/b: 0.0")
    assert reported[-1] == "downloading a/b: 0.03 GiB of it are here"


@pytest.mark.slow
def test_nothing_looks_at_the_disk_once_an_engine_runs(
    profile: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def always_more(_model: str, _environment: Mapping[str, str], tell: Callable[[str, float], None]) -> None:
        while True:
            tell("downloading", 0.01)
            await asyncio.sleep(0.01)

    async def measure(_rig: EngineRig, _step: Measure) -> Point:
        await asyncio.sleep(0.1)
        raise ProfileError(Failure.BUDGET, "seen enough")

    monkeypatch.setattr("slm_runtime.profile.follow_download", always_more)
    monkeypatch.setattr(EngineRig, "measure", measure)
    events = profile().events
    reported = [number for number, one in enumerate(events) if one.get("message") == "downloading"]
    (runs,) = (number for number, one in enumerate(events) if one["event"] == "ledger")
    assert 0 < reported[-1] < runs
    assert events[-1]["message"] == "seen enough"
