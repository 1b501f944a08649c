"""In which words the command line of a measured engine and that of a served one differ, and why: all of them, and no others.

What was measured must be what is served. A word that is added to one command line alone, or a value that drifts, fails
here, and the reason why it may differ belongs into the table.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from slm_core.configuration import EngineConfiguration
from slm_core.engines.registry import default
from slm_core.failure import ProfileError
from slm_core.measurements import SharingMode
from slm_operator.api.profile import SLMProfileSpec
from slm_operator.manifests.engine import Serving, command, fixed_args, serving_args
from slm_operator.manifests.model import model_source
from slm_operator.manifests.profile import Where, profile_args
from slm_runtime import cli
from slm_runtime.measuring import Conditions
from slm_runtime.rig import EngineRig
from slm_runtime.serve.arguments import settings_of
from slm_runtime.window import Pace
from slm_runtime.workload import Lengths

from tests import builders as build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIB = 1 << 30
BATCH, TOKENS, KV = 48, 8192, 3 * GIB
LEDGER = replace(build.LEDGER, device_bytes=80 * GIB, context_bytes=GIB // 2, kv_bytes_per_token=4096)
MODEL = {"uri": "hf://org/opt", "revision": "3f5c25d", "remoteCode": "Trusted", "name": "chat"}
ARGS = ["--enforce-eager", "--quantization", "fp8"]
ENGINE: dict[str, object] = {"maxModelLen": 4096, "dtype": "bfloat16", "args": ARGS}


@dataclass(frozen=True)
class Board:
    """A GPU as far as a start looks at it."""

    memory_bytes: int = LEDGER.device_bytes
    used_bytes: int = 0

    def read(self) -> Board:
        return self

    def chosen(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class Started:
    """What a process was started with."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """Processes that are not started, and what they would have been started with."""
    found: list[Started] = []

    async def record(*words: str, env: Mapping[str, str], **_: object) -> None:
        found.append(Started(words, env))
        raise FileNotFoundError(2, "only looked at")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", record)
    return found


async def measured(
    started: list[Started], replicas: int, kv_bytes: int | None, engine: Mapping[str, object] = ENGINE
) -> Started:
    """The start of one engine in the Job's pod: from the profile's spec to the process, as the runtime makes it."""
    spec = SLMProfileSpec.model_validate({"model": MODEL, "engine": engine})
    words = profile_args(spec, "opt-0123", Where(opt_in_label="slm-operator.io/managed"))
    at = words.index("--")
    task = cli._task(cli._parser().parse_args(words[:at]), tuple(words[at + 1 :]), "")
    board: object = Board()
    rig = EngineRig(task.subject, Lengths(((8, 8),), "fixed"), Conditions(pace=Pace()), board, lambda _: None)  # type: ignore[arg-type]
    rig._launches.context_bytes = LEDGER.context_bytes
    mode = SharingMode.EXCLUSIVE if replicas == 1 else SharingMode.TIME_SLICING
    configuration = EngineConfiguration(
        batch_size=BATCH,
        kv_cache_bytes=kv_bytes,
        max_num_batched_tokens=TOKENS,
        engines_per_gpu=replicas,
        sharing_mode=mode,
    )
    with pytest.raises(ProfileError):
        await rig.start(configuration)
    return started[-1]


def served(replicas: int, engine: Mapping[str, object] = ENGINE, left_out: tuple[str, ...] = ()) -> list[str]:
    """The command and the arguments of a replica."""
    spec = build.deployment_spec({"model": MODEL, "engine": engine})
    serving = Serving(
        batch_size=BATCH,
        kv_bytes=KV,
        max_num_batched_tokens=TOKENS,
        engines_per_gpu=replicas,
        sharing_mode=SharingMode.EXCLUSIVE if replicas == 1 else SharingMode.TIME_SLICING,
        gpu_memory_utilization=default().fraction_while_serving(replicas, LEDGER),
        left_out=left_out,
    )
    return [*command(spec.engine), *serving_args(spec.model, spec.engine, "chat", serving)]


def flags(words: Sequence[str]) -> dict[str, str]:
    """Flags with their values, whatever their order; what stands before the first one is the command."""
    found: dict[str, str] = {}
    flag = "the command"
    for word in words:
        if word.startswith("--"):
            flag = word
            assert flag not in found, f"{flag} is given twice"
            found[flag] = ""
        else:
            found[flag] = f"{found.get(flag, '')} {word}".strip()
    return found


Difference = tuple[str, str | None, str | None, str]
EVERYWHERE: list[Difference] = [
    ("--host", "127.0.0.1", None, "a measured engine is the runtime's own; a replica is asked from outside its pod"),
    ("--port", "any", "8000", "engines of a pack share the Job's pod, so each gets a free port"),
    ("--served-model-name", "opt-0123", "chat", "a profile is shared by deployments, each of which names its model"),
    ("--max-num-queued-reqs", "1000000", "96", "the closed loop must queue as long as it likes; clients get a 503"),
    ("--shutdown-timeout", "0", "120", "at the end of a point nobody waits for an answer"),
]
ALONE: list[Difference] = [
    *EVERYWHERE,
    ("--gpu-memory-utilization", None, "0.90", "the engine's own default of 0.92 against nine tenths of the GPU"),
]
PACKED: list[Difference] = [
    *EVERYWHERE,
    ("--gpu-memory-utilization", "0.48", "0.45", "1/R less context, 0.5 GiB and 0.5 %, against nine tenths of 1/R"),
]
SWEEP: list[Difference] = [
    *ALONE,
    ("--kv-cache-memory-bytes", None, str(KV), "the sweep finds out how much the engine would take"),
]
CASES = {"the-sweep": (1, None, SWEEP), "one-engine": (1, KV, ALONE), "a-pack": (2, KV, PACKED)}


@pytest.mark.parametrize("case", CASES)
async def test_measured_and_served_words_differ_only_as_listed(case: str, started: list[Started]) -> None:
    replicas, kv_bytes, differences = CASES[case]
    one, other = flags((await measured(started, replicas, kv_bytes)).words), flags(served(replicas))
    one["--port"] = "any"
    differing = {flag: (one.get(flag), other.get(flag)) for flag in one | other if one.get(flag) != other.get(flag)}
    assert differing == {flag: (measuring, serving) for flag, measuring, serving, _ in differences}


async def test_measured_engine_has_every_flag_of_a_served_one(started: list[Started]) -> None:
    """So what an engine does not know is seen while it is measured, whatever it calls itself."""
    one = flags((await measured(started, 2, KV)).words)
    assert flags(served(2)).keys() <= one.keys()


IN_A_PACK: list[Difference] = [
    ("--host", None, "127.0.0.1", "engines of a pack are asked by what stands before them in their pod"),
    ("--port", "8000", "8102", "each has its own, in order"),
    ("--shutdown-timeout", "120", "150", "what the pod's grace leaves beside the end of engines that must be killed"),
]


def test_engine_of_a_pack_differs_from_a_replica_in_these_words() -> None:
    spec = build.deployment_spec({"model": MODEL, "engine": ENGINE})
    fraction = default().fraction_while_serving(2, LEDGER)
    words = [
        "serve",
        "--model",
        model_source(spec.model).path,
        "--served-model-name",
        "chat",
        "--batch-size",
        str(BATCH),
    ]
    words += [
        "--kv-cache-bytes",
        str(KV),
        "--max-num-batched-tokens",
        str(TOKENS),
        "--gpu-memory-fraction",
        str(fraction),
    ]
    words += ["--engines-per-gpu", "2", "--sharing-mode", "time-slicing"]
    engine = (*command(spec.engine), "--", *fixed_args(spec.model, spec.engine))
    one, other = flags(served(2)), flags(settings_of(cli._parser().parse_args(words), engine).words(1))
    differing = {flag: (one.get(flag), other.get(flag)) for flag in one | other if one.get(flag) != other.get(flag)}
    assert differing == {flag: (replica, packed) for flag, replica, packed, _ in IN_A_PACK}


VERSIONS = {
    "0.28.0": True,
    "0.26": True,
    "v0.27.1": True,
    "0.28.1+cpu": True,
    "0.24.0+rhai1": True,
    "0.29.0": False,
    "0.29.1+cpu": False,
    "0.32.0": False,
    "1.0": False,
    "0.29.0rc1": False,
    "0.28.1rc0": False,
    "0.1.dev1+g3f5c25d": False,
    "unknown": False,
    "": False,
    "\u0660.\u0662\u0668": False,
}
"""By version: whether it is known to lack the limit of queued requests. What cannot be read is not guessed."""


@pytest.mark.parametrize("version", VERSIONS)
async def test_serving_leaves_out_flags_that_the_engine_lacks(version: str, started: list[Started]) -> None:
    unknown = default().unknown_flags(version, ())
    assert unknown == ("--max-num-queued-reqs",) * VERSIONS[version]
    assert ("--max-num-queued-reqs" in served(1, left_out=unknown)) is not VERSIONS[version]
    # With what it was measured with it is served, and without what it refused, whoever built it and whatever its version.
    words = (await measured(started, 1, KV)).words
    assert default().unknown_flags(version, words) == ()
    without = [word for word in words if word != "--max-num-queued-reqs"]
    assert default().unknown_flags(version, without) == ("--max-num-queued-reqs",)


async def test_owned_flags_come_last_while_measuring_and_while_serving(started: list[Started]) -> None:
    """The last one of a flag counts: whatever passes admission cannot win over the operator's in silence."""
    for words in ((await measured(started, 2, KV)).words, served(2)):
        given = [words.index(word) for word in ARGS if word.startswith("--")]
        owned = [at for at, word in enumerate(words) if word in default().owned_flags]
        assert max(given) < min(owned)
        assert {words[at] for at in owned} >= {"--revision", "--dtype", "--max-model-len", "--max-num-seqs"}


async def test_model_follows_the_command_before_users_words(started: list[Started]) -> None:
    first = ("vllm", "serve", "org/opt")
    assert (await measured(started, 2, KV)).words[:3] == tuple(served(2)[:3]) == first
    level = {**ENGINE, "args": ["-O3"]}
    assert (await measured(started, 2, KV, level)).words[:4] == tuple(served(2, level)[:4]) == (*first, "-O3")


async def test_measured_engine_adds_only_tmpdir_to_its_variables(started: list[Started]) -> None:
    environment = (await measured(started, 2, KV)).environment
    assert environment.keys() - os.environ.keys() <= {"TMPDIR"}


VARIABLES: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "a-level-that-hides-memory": ({"VLLM_LOGGING_LEVEL": "warning"}, {"VLLM_LOGGING_LEVEL": "INFO"}, "ledger"),
    "no-logging": ({"VLLM_CONFIGURE_LOGGING": "0"}, {"VLLM_CONFIGURE_LOGGING": "1"}, "ledger"),
    "a-prefix": ({"VLLM_LOGGING_PREFIX": "[a] "}, {"VLLM_LOGGING_PREFIX": ""}, "levels of lines are read"),
    "a-level-that-says-all": ({"VLLM_LOGGING_LEVEL": "DEBUG"}, {}, "it costs time while serving too"),
    "a-level-that-is-none": ({"VLLM_LOGGING_LEVEL": "LOUD"}, {}, "it must fail here, as it would while serving"),
    "logging-of-ones-own": (
        {"VLLM_CONFIGURE_LOGGING": "0", "VLLM_LOGGING_CONFIG_PATH": "/l.json"}, {}, "as above: vLLM refuses both"
    ),
}  # fmt: skip
"""The user's variables, what a measured engine has instead, and why: all that differ, and no others."""


@pytest.mark.parametrize("case", VARIABLES)
async def test_measured_and_served_variables_differ_only_as_listed(
    case: str, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, instead, _ = VARIABLES[case]
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = (await measured(started, 1, KV)).environment
    others = {name: value for name, value in environment.items() if os.environ.get(name) != value}
    others.pop("TMPDIR")
    assert others == instead
