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


async def count_tokens(engine: EngineProcess, model: str, texts: Sequence[str]) -> list[int | None]:
    """Tokens of each text, by the engine's tokenizer; None for one that it refuses.

    Raises ProfileError when it refuses every text, EngineFault when the engine is silent.
    """
    turns = asyncio.Semaphore(AT_ONCE)
    kind, path = engine.kind, engine.kind.paths.tokenize
    refusals: list[str] = []

    async def count(text: str) -> int | None:
        async with turns:
            status, body = await engine.ask("POST", path, kind.tokenize_request(model, text))
        try:
            if status == 200:
                return kind.read_token_count(json.loads(body))
        except (KeyError, TypeError, ValueError, RecursionError):
            pass  # as bad as another status
        refusals.append(f"{status}, {body[:80]!r}")
        return None

    counts = list(await asyncio.gather(*map(count, texts)))
    if refusals and len(refusals) == len(counts):
        raise ProfileError(
            Failure.WORKLOAD,
            f"the engine's {path} answers {refusals[0]}: a dataset's lengths cannot be counted; "
            "give --input-tokens and --output-tokens",
        )
    return counts


async def _json(engine: EngineProcess, path: str) -> object:
    try:
        status, body = await engine.ask("GET", path)
        return json.loads(body) if status == 200 else None
    except (EngineFault, ValueError, RecursionError):
        return None
