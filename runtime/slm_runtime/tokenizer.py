"""Questions that only a running engine can answer: its version, its longest sequence, how many tokens a text has.

Exists because the runtime has no tokenizer of its own. Where and how an engine answers is for `slm_core.engines` to say.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from slm_core.failure import EngineFault, Failure, ProfileError

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
    """Tokens of each text, by the engine's tokenizer. Raises ProfileError when the engine cannot tell, EngineFault when it is silent."""
    turns = asyncio.Semaphore(AT_ONCE)
    kind, path = engine.kind, engine.kind.paths.tokenize

    async def count(text: str) -> int:
        async with turns:
            status, body = await engine.ask("POST", path, kind.tokenize_request(model, text))
        try:
            if status == 200:
                return kind.read_token_count(json.loads(body))
        except (KeyError, TypeError, ValueError):
            pass  # as bad as another status
        raise ProfileError(
            Failure.WORKLOAD,
            f"the engine's {path} answers {status}, {body[:80]!r}: a dataset's lengths cannot be counted; "
            "give --input-tokens and --output-tokens",
        )

    return list(await asyncio.gather(*map(count, texts)))


async def _json(engine: EngineProcess, path: str) -> object:
    try:
        status, body = await engine.ask("GET", path)
        return json.loads(body) if status == 200 else None
    except (EngineFault, ValueError):
        return None
