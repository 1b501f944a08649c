"""A replica's command line under a user's own command, as the real vLLM takes it: the user's words, and ours last.

The default command, `vllm serve`, is what the story on the kind node serves with (tests/e2e/test_first_answer.py).
"""

from __future__ import annotations

import json

import aiohttp
import pytest
from slm_core.engines.base import ModelOptions, Options, ServingOptions
from slm_core.engines.registry import default
from slm_runtime.engine_process import Launch, start_engine

from tests.testbed.engine_cpu import CPU_ENV, python
from tests.testbed.tiny_model import tiny_model

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
MODULE = [str(python()), "-m", "vllm.entrypoints.openai.api_server"]
GIVEN = (
    *("--enforce-eager", "--max-num-scheduled-tokens", "512", "--root-path", "/behind", "--disable-fastapi-docs"),
    *("--max-model-l", "128", "--max-num-seq=2"),
)
"""NB: the last two would be refused at admission. What passes there under a name that a newer engine has must not win."""


def options() -> Options:
    chosen = ModelOptions(max_model_len=512, dtype="bfloat16")
    return Options(
        model=str(tiny_model()),
        served_name="chat",
        batch_size=8,
        max_num_batched_tokens=1024,
        kv_bytes=64 << 20,
        memory_fraction=0.1,
        fixed=default().fixed_arguments(chosen, GIVEN),
        service=ServingOptions(port=8000, max_in_flight=16, drain_seconds=1),
    )


async def test_the_module_serves_the_model_and_the_owned_flags_win() -> None:
    words = (*MODULE, *default().arguments(MODULE, options()))
    environment = dict(CPU_ENV) | {default().key_variable or "": "a key"}
    engine = await start_engine(Launch(command=words, environment=environment, timeout_seconds=600))
    try:
        (card,) = json.loads(await engine.get(default().paths.models))["data"]
        said = (card["id"], card["root"], card["max_model_len"])
        assert said == ("chat", str(tiny_model()), 512)
        assert (await engine.memory()).kv_pool_bytes == 64 << 20
        await engine.complete({"model": "chat", "prompt": [9] * 8, "max_tokens": 2})
        assert await _answers_without_a_key(engine.url) == {
            "health": 200,
            "metrics": 200,
            "version": 200,
            "models": 401,
        }
    finally:
        await engine.stop()


async def _answers_without_a_key(url: str) -> dict[str, int]:
    """Status of each path for probes, the operator and whoever else has no key."""
    paths, found = default().paths, {}
    async with aiohttp.ClientSession(url) as session:
        for name in ("health", "metrics", "version", "models"):
            async with session.get(getattr(paths, name)) as response:
                found[name] = response.status
    return found
