"""What of a pack's settings cannot work is said with its remedy; what can is passed on as it was advised."""

from dataclasses import replace
from typing import Any

import pytest
from slm_core.measurements import SharingMode
from slm_core.sharing.base import Limits
from slm_runtime import cli
from slm_runtime.device_checks import Choice
from slm_runtime.serve.arguments import settings_of
from slm_runtime.serve.settings import Settings, mistakes, mistakes_on

GIB = 2**30
PACK = Settings(
    model="org/opt",
    served_name="opt",
    command=("vllm", "serve"),
    engines=3,
    mode=SharingMode.MPS,
    batch_size=48,
    kv_bytes=GIB,
    max_num_batched_tokens=2048,
    host="127.0.0.1",
    startup_seconds=900,
    device=Choice.GPU,
)
LIMITED = Limits(memory_bytes=8 * GIB)

MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "engines-that-share-by-nothing": (
        {"mode": SharingMode.EXCLUSIVE},
        "3 engines cannot have a GPU with no sharing",
        "give --sharing-mode mps or --sharing-mode time-slicing",
    ),
    "one-engine-that-shares": (
        {"engines": 1},
        "one engine shares with nobody, and MPS was asked for",
        "leave --sharing-mode out, or give it as exclusive",
    ),
    "more-clients-than-mps-serves": (
        {"engines": 49, "memory_fraction": 0.02},
        "MPS serves 48 clients, not 49",
        "lower --engines-per-gpu",
    ),
    "limits-that-nothing-enforces": (
        {"mode": SharingMode.TIME_SLICING, "limits": LIMITED},
        "nothing holds an engine to a limit with time slicing",
        "leave --memory-limit-bytes and --active-thread-percentage out, or give --sharing-mode mps",
    ),
    "no-kv-bytes": (
        {"kv_bytes": None},
        "engines that start together would mis-size each other's KV pools",
        "give --kv-cache-bytes: kvCacheBytes of the advice",
    ),
    "steps-below-the-batch": (
        {"max_num_batched_tokens": 32},
        "a step of 32 tokens has no room for 48 sequences",
        "raise --max-num-batched-tokens to --batch-size at least",
    ),
    "a-flag-that-cannot-be-left-out": (
        {"left_out": ("--max-num-queued-reqs", "--max-num-seqs")},
        "vllm does not serve as advised without --max-num-seqs",
        "give none but --leave-out=--max-num-queued-reqs",
    ),
    "more-memory-than-there-is": (
        {"memory_fraction": 0.4},
        "3 engines would want 0.4 of the GPU's memory each",
        "lower --gpu-memory-fraction to 0.33, or leave it out",
    ),
    "no-time-to-drain": (
        {"grace_seconds": 30},
        "30 s of the grace are for engines that have to be killed: nothing is left to drain",
        "raise --grace-seconds above 30, and what waits for the supervisor's end with it",
    ),
    "ports-beyond-the-last": (
        {"first_port": 65534},
        "3 engines from port 65534 on would need port 65536",
        "lower --port to 65533",
    ),
    "a-status-port-among-the-engines'": (
        {"status_port": 8103},
        "port 8103 is an engine's, and the status's",
        "give --status-port outside of 8101 to 8103",
    ),
    "an-agent-port-among-the-engines'": (
        {"agent_port": 8101},
        "port 8101 is an engine's, and the router's to ask",
        "give --agent-port outside of 8101 to 8103",
    ),
    "one-port-for-status-and-agent": (
        {"agent_port": 8001},
        "port 8001 is the status's, and the router's to ask",
        "give --agent-port another one",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_said_with_its_remedy(case: str) -> None:
    wrong, message, remedy = MISTAKES[case]
    (found,) = mistakes(replace(PACK, **wrong))
    assert (found.message, found.remedy) == (message, remedy)


def test_every_mistake_is_said_at_once() -> None:
    assert len(mistakes(replace(PACK, kv_bytes=None, grace_seconds=1, first_port=65535))) == 3


def test_what_was_advised_is_no_mistake() -> None:
    assert mistakes(PACK) == mistakes_on(PACK, 16 * GIB) == ()
    assert mistakes(replace(PACK, engines=1, mode=SharingMode.EXCLUSIVE, kv_bytes=None)) == ()


def test_limits_beyond_the_gpu_are_a_mistake() -> None:
    (found,) = mistakes_on(replace(PACK, limits=LIMITED), 16 * GIB)
    assert found.message == "3 engines of 8192 MiB each are more than the 16384 MiB of this GPU"
    assert found.remedy == f"lower --memory-limit-bytes to {16 * GIB // 3}, or leave it out"


def test_mps_without_a_gpu_is_a_mistake() -> None:
    (found,) = mistakes_on(PACK, None)
    assert found.message == "MPS needs a GPU, and there is none"
    assert found.remedy.startswith("give --sharing-mode time-slicing")


def test_words_of_the_command_line_become_settings() -> None:
    words = ["serve", "--model", "/models/opt", "--batch-size", "48", "--engines-per-gpu", "3", "--sharing-mode", "mps"]
    words += ["--memory-limit-bytes", "100", "--active-thread-percentage", "40", "--grace-seconds", "90"]
    given = settings_of(cli._parser().parse_args(words), ("vllm", "serve", "--enforce-eager"))
    assert (given.served_name, given.command, given.arguments) == ("opt", ("vllm", "serve"), ("--enforce-eager",))
    assert (given.mode, given.limits) == (SharingMode.MPS, Limits(memory_bytes=100, thread_percentage=40))
    assert (given.drain_seconds, list(given.ports), given.status_port) == (60, [8101, 8102, 8103], 8001)


@pytest.mark.parametrize(
    "wrong", ["--port 0", "--active-thread-percentage 101", "--sharing-mode mig", "--batch-size x"]
)
def test_a_wrong_word_is_refused_where_it_was_typed(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--model", "/m", "--batch-size", "8", *wrong.split()])
    assert ended.value.code == 2
    assert wrong.split(maxsplit=1)[0] in capsys.readouterr().err


def test_a_secret_among_the_words_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["serve", "--model", "/m", "--batch-size", "8", "--", "vllm", "serve", "--api-key", "hush"])
    assert status == 11
    said = capsys.readouterr().err
    assert "--api-key would stand in the process list" in said
    assert "hush" not in said
