"""Questions that only a running engine can answer: its version, its longest sequence, how many tokens a text has.

Exists because the runtime has no tokenizer of its own. Where and how an engine answers is for `slm_core.engines` to say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
from slm_core.failure import Failure, ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slm_core.engines.base import Identity

    from slm_runtime.engine_process import EngineProcess

AT_ONCE = 16


async def identify(engine: EngineProcess) -> Identity:
    """Ask for version and longest sequence; absent answers are `unknown` and None."""
    kind = engine.kind
    return kind.read_identity(await _json(engine, kind.paths.version), await _json(engine, kind.paths.models))


async def count_tokens(engine: EngineProcess, model: str, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, by the engine's tokenizer. Raises ProfileError when the engine cannot tell."""
    turns = asyncio.Semaphore(AT_ONCE)
    kind, path = engine.kind, engine.kind.paths.tokenize

    async def count(text: str) -> int:
        body = kind.tokenize_request(model, text)
        async with turns, engine.session.post(path, json=body) as response:
            if response.status != 200:
                raise ProfileError(
                    Failure.WORKLOAD,
                    f"the engine's {path} answers {response.status}: a dataset's lengths cannot be counted; "
                    "give --input-tokens and --output-tokens",
                )
            return kind.read_token_count(await response.json())

    return list(await asyncio.gather(*map(count, texts)))


async def _json(engine: EngineProcess, path: str) -> object:
    try:
        async with engine.session.get(path) as response:
            return await response.json(content_type=None) if response.status == 200 else None
    except (aiohttp.ClientError, ValueError):
        return None
