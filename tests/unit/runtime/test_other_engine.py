"""An engine that is no vLLM, through the product's own code: measured, explained, read and served by its own words.

It is chosen as any engine is: by its command, from the registry. Nothing else of the product knows that it exists.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.engines import registry
from slm_core.failure import EngineFault, Failure, ProfileError
from slm_core.search.steps import Measure
from slm_operator.api.deployment import SLMDeploymentSpec
from slm_operator.cli.inputs.revisions import revisions
from slm_operator.kube.engine_metrics import pod_page
from slm_operator.manifests.engine import fixed_args
from slm_operator.manifests.profile import profile_spec
from slm_operator.manifests.profile_key import profile_key
from slm_operator.manifests.replicas import replicas
from slm_operator.planning.deployment.advising import Unadvisable, advise_deployment, serving_of
from slm_runtime import cli
from slm_runtime.measuring import Conditions
from slm_runtime.rig import EngineRig
from slm_runtime.tokenizer import count_tokens
from slm_runtime.window import Pace

from tests import builders as build
from tests.other_engine.port import OtherEngine

pytestmark = pytest.mark.slow
OTHER = OtherEngine()
COMMAND = ["python3", "-m", "other_engine"]
CONFIGURATION = EngineConfiguration(batch_size=8, max_num_batched_tokens=512)
MEASURE = Measure(batch_size=4, in_flight=None, max_requests=None, min_samples=0, because="a test")
TALKS = [{"conversations": [{"from": "human", "value": "a" * 20}, {"from": "gpt", "value": "b" * 10}]}] * 4


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, OTHER))
    return


@asynccontextmanager
async def rig(model: Path, *words: str) -> AsyncIterator[EngineRig]:
    """As the command line makes it, with a dataset whose tokens only the engine can count."""
    dataset = model.parent / "talks.json"
    dataset.write_text(json.dumps(TALKS))
    given = cli._parser().parse_args(["profile", "--model", str(model), "--max-model-len", "1024"])
    task = cli._task(given, (sys.executable, *COMMAND[1:], "--quiet", *words), "a test")
    pace = Pace(poll_seconds=0.02, min_seconds=0.1, max_seconds=0.5)
    made = EngineRig(task.subject, str(dataset), Conditions(pace=pace), None, lambda _: None)
    try:
        yield made
    finally:
        await made.stop()


@pytest.mark.usefixtures("light_command")
async def test_other_engine_is_measured_by_its_flags_and_counters(model: Path) -> None:
    async with rig(model) as made:
        report = await made.start(CONFIGURATION)
        ledger = report.ledger
        assert made.args[:4] == ("--quiet", "--longest", "1024", "--weights")
        assert made.args[-6:] == ("--lanes", "8", "--step-tokens", "512", "--cache-bytes", str(ledger.kv_pool_bytes))
        assert (made.kind.name, report.version, report.max_model_len) == (OTHER.name, "9.1", 1024)
        assert len(report.seconds) == 1
        assert (ledger.weights_bytes, ledger.activation_peak_bytes) == (512 * 2**20, 64 * 2**20)
        assert ledger.kv_bytes_per_token == 4096
        assert made.lengths is not None
        assert made.lengths.pairs == ((20, 10),) * 4
        point = await made.measure(MEASURE)
        assert point.errors == 0
        assert 0 < point.mean_running <= 4
        read = (await pod_page(f"{made._engines[0].url}{OTHER.paths.metrics}", OTHER)).counters
        assert read.output_tokens > 0


@pytest.mark.usefixtures("light_command")
async def test_a_page_that_fails_because_it_dies_is_its_death(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHT_ENGINE_FAULT", "die-slowly-at:4")
    async with rig(model) as made:
        await made.start(CONFIGURATION)
        with pytest.raises(EngineFault, match="the engine died") as raised:
            await made.measure(MEASURE)
    assert raised.value.failure is made.fault is Failure.DIED
    assert isinstance(raised.value.__cause__, ProfileError)  # of its page, which alone would end the search


NO_COUNTS = {
    "another-status": (500, "{}"),
    "no-json": (200, "<html>"),
    "no-count": (200, "{}"),
    "no-object": (200, "[]"),
}


@pytest.mark.parametrize("case", NO_COUNTS)
async def test_tokens_that_it_does_not_count_end_the_measurement(case: str) -> None:
    async def ask(*_: object) -> tuple[int, str]:
        return NO_COUNTS[case]

    engine: Any = SimpleNamespace(kind=OTHER, ask=ask)
    with pytest.raises(ProfileError, match="give --input-tokens") as raised:
        await count_tokens(engine, "m", ["hello"])
    assert raised.value.failure is Failure.WORKLOAD


@pytest.mark.parametrize("case", NO_COUNTS)
async def test_text_that_other_engine_does_not_count_is_none(case: str) -> None:
    async def ask(_method: str, _path: str, body: Any) -> tuple[int, str]:
        return NO_COUNTS[case] if "odd" in str(body) else (200, '{"tokens": 3}')

    engine: Any = SimpleNamespace(kind=OTHER, ask=ask)
    assert await count_tokens(engine, "m", ["hello", "odd"]) == [3, None]


LAST_WORDS: dict[str, tuple[str, list[str], Failure, str]] = {
    "no-room": ("die-at-start", [], Failure.MEMORY, "FATAL no room for 536870912 bytes"),
    "a-flag-of-vllm": ("", ["--max-num-seqs", "8"], Failure.ARGUMENTS, "FATAL bad option --max-num-seqs"),
}


@pytest.mark.parametrize("case", LAST_WORDS)
@pytest.mark.usefixtures("light_command")
async def test_failed_start_of_other_engine_is_read_in_its_words(
    model: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    fault, words, failure, said = LAST_WORDS[case]
    monkeypatch.setenv("LIGHT_ENGINE_FAULT", fault)
    async with rig(model, *words) as made:
        with pytest.raises(ProfileError) as raised:
            await made.start(CONFIGURATION)
    assert (raised.value.failure, str(raised.value)) == (failure, f"the engine did not start (exit status 3): {said}")


def test_a_whole_profile_names_it_and_gives_its_own_remedy(
    profile: Callable[..., Any], light_command: list[str]
) -> None:
    light_command[1:] = COMMAND[1:]
    run = profile("--max-engines-per-gpu", "1")
    document = run.one("result")["document"]
    assert (document["engine"]["name"], document["engine"]["version"]) == (OTHER.name, "9.1")
    assert run.status == 0
    assert profile(fault="die-at-start").one("failed")["remedy"] == "give it fewer lanes"


def spec(**engine: Any) -> SLMDeploymentSpec:
    return build.deployment_spec({"engine": {"command": COMMAND, **engine}})


def test_other_engines_pods_follow_its_advice() -> None:
    record = build.deployment("opt", {"engine": {"command": COMMAND, "dtype": "float16"}})
    asked = build.spec_of(record)
    document = build.imported()
    advice = advise_deployment(asked, replace(document, engine=replace(document.engine, name=OTHER.name)))
    assert not isinstance(advice, Unadvisable)
    serving = replace(serving_of(asked.engine, advice, document), kv_bytes=1 << 30)
    made = replicas(record, asked, serving, build.replica_fleet(serving))
    (engine,) = made["spec"]["template"]["spec"]["containers"]
    assert engine["command"] == COMMAND
    batch, per_gpu = advice.configuration.batch_size, advice.configuration.engines_per_gpu
    assert engine["args"] == [
        *("--precision", "float16", "--weights", "/models/models/opt", "--alias", "opt", "--lanes", str(batch)),
        *("--step-tokens", str(advice.configuration.max_num_batched_tokens), "--cache-bytes", "1073741824"),
        *("--claim", f"{0.875 / per_gpu:.3f}", "--refuse-above", str(2 * batch), "--linger", "120"),
        *("--bind", "0.0.0.0:8000"),
    ]
    variables = {one["name"] for one in engine["env"]}
    assert "OTHER_NO_TELEMETRY" in variables
    assert not any(name.startswith("VLLM") for name in variables)
    assert {engine[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")} == {"/live"}
    made["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    (read_back,) = revisions([made])
    assert (read_back.batch_size, read_back.kv_bytes) == (batch, 1 << 30)


SOURCES: dict[str, tuple[dict[str, object], list[str]]] = {
    "a-revision": ({"uri": "hf://org/opt", "revision": "v1"}, ["--tag", "v1", "--precision", "auto"]),
    "a-bucket": ({"uri": "s3://models/opt"}, ["--precision", "auto", "--stream"]),
    "code-of-the-model": ({"uri": "/opt", "remoteCode": "Trusted"}, ["--precision", "auto", "--own-code"]),
}


@pytest.mark.parametrize("case", SOURCES)
def test_model_needs_are_told_in_other_engines_flags(case: str) -> None:
    model, words = SOURCES[case]
    read = build.deployment_spec({"model": model, "engine": {"command": COMMAND}})
    assert fixed_args(read.model, read.engine) == words


KEYS = {
    "an-argument-that-changes-no-figure": ({"args": ["--quiet"]}, True),
    "an-argument-that-may": ({"args": ["--turbo"]}, False),
    "a-variable-that-changes-no-figure": ({"env": [{"name": "OTHER_LOG", "value": "1"}]}, True),
    "a-variable-that-may": ({"env": [{"name": "OTHER_TURBO", "value": "1"}]}, False),
}


@pytest.mark.parametrize("case", KEYS)
def test_flag_that_changes_no_measurement_is_not_in_the_key(case: str) -> None:
    engine, same = KEYS[case]
    assert (profile_key(profile_spec(spec(**engine))) == profile_key(profile_spec(spec()))) is same
