"""A file of conversations or of token counts, read for what requests look like: by role, never by position.

Takes the shapes that such files have (`SHAPES`). A request is the first turn of a person, with the system prompts before
it, because those are sent with every request; and the first answer after it. Turns of tools, and what an assistant said
before anybody asked, are nobody's request.

Assumes nothing of the content: what cannot be read is skipped and counted, and where what is left is another workload
(`is_remnant`), the file is refused in one sentence. Reads no further than it needs (`entries`). Must never guess who speaks.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slm_core.failure import Failure, ProfileError

from slm_runtime.entries import entries
from slm_runtime.workload import Lengths, is_remnant

if TYPE_CHECKING:
    from collections.abc import Sequence

SHAPES = (
    "ShareGPT (conversations with from and value), OpenAI messages (role and content), prompt and completion, as a JSON list or "
    "as one JSON object a line, or token counts (ContextTokens and GeneratedTokens, input_length and output_length) as CSV or JSON"
)
"""What is taken, for messages."""
MOST_REQUESTS = 1000
"""Requests taken from a dataset, the first ones: enough for the mean within a few per cent."""
MOST_TEXT = 1 << 20
"""Characters of one prompt or answer: what is longer fits into no small model."""
MOST_TOKENS = 10_000_000

_TURNS = ("conversations", "conversation", "messages")
_ROLE, _TEXT = ("from", "role"), ("value", "content")
_SYSTEM = frozenset({"system", "developer"})
_PERSON = frozenset({"human", "user"})
_ASSISTANT = frozenset({"gpt", "assistant", "chatgpt", "bing", "bard", "claude", "gemini", "model", "bot"})
_PAIRS = (("prompt", "completion"), ("prompt", "response"))
_COUNTS = (
    ("contexttokens", "generatedtokens"),  # Azure's LLM inference traces
    ("request tokens", "response tokens"),  # BurstGPT
    ("input_length", "output_length"),  # Mooncake's traces
    ("input_tokens", "output_tokens"),
    ("prompt_tokens", "completion_tokens"),
    ("num_prefill_tokens", "num_decode_tokens"),
)
"""Token counts of prompt and answer, by their names in lower case."""

NO_PAIR = "without a question and an answer to it"
NO_SHAPE = "of no known shape"
NO_ROLE = "whose turns do not say who speaks"
NO_TEXT = "whose text cannot be read"
TOO_LONG = f"with a text of more than {MOST_TEXT:,} characters"
NO_COUNT = "whose token counts are no numbers from 1 on"


@dataclass(frozen=True, slots=True)
class Conversations:
    """Pairs of (prompt, answer), whose tokens an engine must count, and their source in words."""

    texts: tuple[tuple[str, str], ...]
    source: str


class _SkippedError(ValueError):
    """An entry that is left out. Its message is why."""


Request = tuple[str, str] | tuple[int, int]


def read_dataset(path: str) -> Conversations | Lengths:
    """The first requests of a file, and its name with its digest and with what was left out. Raises ProfileError."""
    skipped: Counter[str] = Counter()
    found: list[Request] = []
    try:
        for entry in entries(Path(path), _COUNTS):
            try:
                found.append(_request(entry))
            except _SkippedError as why:
                skipped[str(why)] += 1
            if len(found) == MOST_REQUESTS:
                break
        digest = _digest(Path(path))
    except OSError as error:
        raise ProfileError(Failure.WORKLOAD, f"dataset {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(Failure.WORKLOAD, f"dataset {path}: {_why(error)}; what is taken: {SHAPES}") from None
    texts = tuple((a, b) for a, b in found if isinstance(a, str) and isinstance(b, str))
    counts = tuple((a, b) for a, b in found if isinstance(a, int) and isinstance(b, int))
    _refuse_a_remnant(path, len(texts), len(counts), skipped)
    name = Path(path).name.encode(errors="replace").decode()
    source = f"{name} sha256:{digest}{_left_out(skipped)}"
    return Conversations(texts, source) if texts else Lengths(counts, source)


def counted(read: Conversations, tokens: Sequence[int | None]) -> Lengths:
    """The lengths of conversations, from the tokens of each prompt and answer in turn. Raises ProfileError.

    None stands for a text that the engine's tokenizer refuses.
    """
    both = list(zip(tokens[::2], tokens[1::2], strict=True))
    kept = tuple((prompt, answer) for prompt, answer in both if prompt is not None and answer is not None)
    refused = f"{len(both) - len(kept)} of {len(both)} with a text that the engine's tokenizer refuses"
    if is_remnant(len(kept), len(both)):
        raise ProfileError(Failure.WORKLOAD, f"dataset {read.source}: {refused}")
    return Lengths(kept, read.source + (f" (left out: {refused})" if len(kept) < len(both) else ""))


def _why(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


def _left_out(skipped: Counter[str]) -> str:
    said = ", ".join(f"{count} {why}" for why, count in skipped.most_common())
    return f" (skipped: {said})" if said else ""


def _refuse_a_remnant(path: str, texts: int, counts: int, skipped: Counter[str]) -> None:
    """Too little that can be read is another workload. Conversations that nobody answered are as such files are."""
    if texts and counts:
        raise ProfileError(Failure.WORKLOAD, f"dataset {path} holds both texts and token counts: give one kind")
    read, unread = texts + counts, skipped.total() - skipped[NO_PAIR]
    if is_remnant(read, read + unread):
        raise ProfileError(
            Failure.WORKLOAD,
            f"dataset {path}: {read} of {read + skipped.total()} entries can be used{_left_out(skipped)}; what is taken: {SHAPES}",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _request(entry: Any) -> Request:
    """Raises _SkippedError."""
    if isinstance(entry, list):
        return _of_turns(entry)
    if not isinstance(entry, dict):
        raise _SkippedError(NO_SHAPE)
    turns = next((entry[name] for name in _TURNS if isinstance(entry.get(name), list)), None)
    if turns is not None:
        return _of_turns(turns)
    named = {str(name).strip().lower(): value for name, value in entry.items()}
    for asked, answered in _COUNTS:
        if asked in named and answered in named:
            return _count(named[asked]), _count(named[answered])
    for asked, answered in _PAIRS:
        if asked in named and answered in named:
            return _pair(_text(named[asked]), _text(named[answered]))
    raise _SkippedError(NO_SHAPE)


def _of_turns(turns: list[Any]) -> Request:
    if not all(isinstance(turn, dict) for turn in turns):
        raise _SkippedError(NO_SHAPE)
    said = [(_role(turn), turn) for turn in turns]
    if turns and not any(role in _PERSON or role in _ASSISTANT for role, _ in said):
        raise _SkippedError(NO_ROLE)
    system: list[str] = []
    question = ""
    for role, turn in said:
        if role in _SYSTEM and not question:
            system.append(_text(_first(turn, _TEXT)))
        elif role in _PERSON and not question:
            question = _text(_first(turn, _TEXT))
        elif role in _ASSISTANT and question and (answer := _text(_first(turn, _TEXT))):
            return _pair("\n".join((*filter(None, system), question)), answer)
    raise _SkippedError(NO_PAIR)


def _role(turn: dict[str, Any]) -> str:
    return str(_first(turn, _ROLE)).strip().lower()


def _first(turn: dict[str, Any], names: Sequence[str]) -> Any:
    return next((turn[name] for name in names if name in turn), None)


def _text(value: Any) -> str:
    """Empty where nothing was said, as in a turn that only calls a tool."""
    parts = value if isinstance(value, list) else [value or ""]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    said = [text for text in texts if isinstance(text, str)]
    if len(said) < len(texts):  # an image, a number
        raise _SkippedError(NO_TEXT)
    return "\n".join(said)


def _pair(prompt: str, answer: str) -> tuple[str, str]:
    if not prompt or not answer:
        raise _SkippedError(NO_PAIR)
    try:
        (prompt + answer).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which no tokenizer takes
        raise _SkippedError(NO_TEXT) from None
    if max(len(prompt), len(answer)) > MOST_TEXT:
        raise _SkippedError(TOO_LONG)
    return prompt, answer


def _count(value: Any) -> int:
    try:
        tokens = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        tokens = math.nan
    if not 1 <= tokens <= MOST_TOKENS or tokens % 1:
        raise _SkippedError(NO_COUNT)
    return int(tokens)
