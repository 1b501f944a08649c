"""What engines say when they fail, and what is made of it. The lines are vLLM's own."""

import pytest
from slm_core.engines.registry import default
from slm_core.failure import EXIT_STATUS, REMEDY, Failure

HEARSAY = (
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
)
SAID = [
    (
        "the root cause, not its echo",
        "(EngineCore pid=2) ERROR 11-21 09:24:03 [core.py:1] ValueError: To serve at least one request with the model's "
        "max seq len (512), (0.02 GiB KV cache is needed, which is larger than the available KV cache memory (0.0 GiB).\n"
        + HEARSAY,
        Failure.MEMORY,
        "ValueError: To serve at least one",
    ),
    (
        "a device that others use",
        "ValueError: Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory utilization",
        Failure.MEMORY,
        "Free memory on device",
    ),
    (
        "no such flag",
        "api_server.py: error: unrecognized arguments: --max-num-seq 3",
        Failure.ARGUMENTS,
        "--max-num-seq",
    ),
    ("a dtype", "ValueError: Unknown dtype: 'float17'", Failure.ARGUMENTS, "float17"),
    (
        "a name nobody has",
        "OSError: Can't load the configuration of 'opt'. If you",
        Failure.MODEL,
        "configuration of 'opt'",
    ),
    (
        "weights cut short",
        "safetensors_rust.SafetensorError: Error while deserializing header",
        Failure.MODEL,
        "Safetensor",
    ),
    ("no engine here", "/usr/bin/python3: Error: No module named 'vllm'", Failure.COMMAND, "vllm"),
    (
        "a taken port",
        "OSError: [Errno 98] error while attempting to bind: address already in use",
        Failure.PORT,
        "bind",
    ),
    ("a full disk", "OSError: [Errno 28] No space left on device", Failure.DISK, "No space"),
    ("words of its own", "INFO all is well\nRuntimeError: the moon is full", None, "the moon is full"),
    ("no error line", "INFO one\nINFO two\n", None, "two"),
    ("silence", "", None, "printed nothing"),
]


@pytest.mark.parametrize(("name", "log", "failure", "line"), SAID, ids=[c[0] for c in SAID])
def test_the_class_and_the_line(name: str, log: str, failure: Failure | None, line: str) -> None:
    found, shown = default().explain(log)
    assert found == failure
    assert line in shown
    assert "\n" not in shown
    assert not shown.startswith("(")


def test_every_class_has_a_remedy_and_an_exit_status_of_its_own() -> None:
    assert set(REMEDY) == set(EXIT_STATUS) == set(Failure)
    assert len(set(EXIT_STATUS.values())) == len(Failure)
    assert not {0, 1, 2} & set(EXIT_STATUS.values())
