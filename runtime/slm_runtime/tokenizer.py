"""Questions that only a running engine can answer: its version, its longest sequence, how many tokens a text has.

Exists because the runtime has no tokenizer of its own. Assumes vLLM's /version, /v1/models and /tokenize.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from slm_core.failure import Failure, ProfileError

if TYPE_CHECKING:
    from collections.abc import Sequence

AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an engine says of itself."""

    version: str
    max_model_len: int | None


async def identify(session: aiohttp.ClientSession) -> Identity:
    """Ask for version and longest sequence; absent answers are `unknown` and None."""
    version = await _json(session, "/version")
    models = await _json(session, "/v1/models")
    cards = models.get("data") if isinstance(models, dict) else None
    longest = cards[0].get("max_model_len") if isinstance(cards, list) and cards else None
    return Identity(
        version=str(version.get("version", "unknown")) if isinstance(version, dict) else "unknown",
        max_model_len=longest if isinstance(longest, int) else None,
    )


async def count_tokens(session: aiohttp.ClientSession, model: str, texts: Sequence[str]) -> list[int]:
    """Tokens of each text, by the engine's tokenizer. Raises ProfileError when the engine cannot tell."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def count(text: str) -> int:
        async with turns, session.post("/tokenize", json={"model": model, "prompt": text}) as response:
            if response.status != 200:
                raise ProfileError(
                    Failure.WORKLOAD,
                    f"the engine's /tokenize answers {response.status}: a dataset's lengths cannot be counted; "
                    "give --input-tokens and --output-tokens",
                )
            return int((await response.json())["count"])

    return list(await asyncio.gather(*map(count, texts)))


async def _json(session: aiohttp.ClientSession, path: str) -> object:
    try:
        async with session.get(path) as response:
            return await response.json(content_type=None) if response.status == 200 else None
    except (aiohttp.ClientError, ValueError):
        return None
