"""Command lines of vLLM that somebody else wrote: what they say, what is wrong about them, and what must change in them.

Exists so that an engine which others run is read as vLLM's own parser reads it: short names, names cut short, `_` for `-`,
values after `=`. Sources: the pinned version's vllm/engine/arg_utils.py (`get_batch_defaults`,
`_set_default_max_num_seqs_and_batched_tokens_args`) and vllm/config/scheduler.py; which options take values stands in
tests/data/vllm/options.json. Must never take for known what these words do not say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from slm_core.engines.base import Batching, CommandLine, GivenFlag, Owner
from slm_core.engines.vllm_flags import (
    BATCH_SIZE,
    KV_BYTES,
    MAX_MODEL_LEN,
    OWNED,
    SECRET,
    SHORT,
    STEP_TOKENS,
    name_of,
    size_of,
)
from slm_core.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slm_core.engines.base import Advised

ACTIVE, QUEUED, BLOCKS = "--max-num-active-seqs", "--max-num-queued-reqs", "--num-gpu-blocks-override"
FRACTION = "--gpu-memory-utilization"
ALIASES = {"--device-memory-utilization": FRACTION}
ALONE = frozenset({
    "--trust-remote-code", "--no-trust-remote-code", "--headless", "--grpc", "--tokens-only", "--no-tokens-only",
    "--disable-log-stats", "--enable-elastic-ep", "--no-enable-elastic-ep", "--enable-fault-tolerance",
    "--no-enable-fault-tolerance", "--data-parallel-hybrid-lb", "--no-data-parallel-hybrid-lb",
    "--data-parallel-external-lb", "--no-data-parallel-external-lb", "--data-parallel-multi-port-external-lb",
})  # fmt: skip
"""Owned flags without a value."""
SEVERAL = frozenset({"--served-model-name", "--api-key"})
"""Owned flags with one value or more."""
SIZES = frozenset({
    "--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size", "--data-parallel-size-local",
    "--decode-context-parallel-size", "--prefill-context-parallel-size", "--nnodes",
})  # fmt: skip
"""Flags of several GPUs that say nothing where they say 1."""
_MODULES = ("vllm.entrypoints.openai.api_server", "vllm/entrypoints/openai/api_server.py")
_IMAGE = re.compile(r"(?:^|[-_])vllm(?:$|[-_])")
_ONE_WORD = re.compile(r"--?[A-Za-z][^=\s]*\s")
MOST_SAID = 40
"""Letters of a value that a sentence repeats."""
_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+", re.ASCII)
_NO_SERVER = re.compile(r"router|proxy|gateway|exporter|stack")
_SINCE = (0, 26)
"""The oldest version whose defaults were looked at."""
_DEFAULTS = ((160, 1024, 16384), (70, 1024, 8192), (0, 256, 2048))
"""(GiB of memory at least, sequences, tokens of a step) of its server on CUDA; an A100 has those of the last row below 160."""
_CPU_DEFAULTS = (128, 2048)


def arguments_at(words: Sequence[str]) -> int | None:
    """Where the arguments begin: behind `vllm serve`, or behind the module that the command stands for."""
    for at, word in enumerate(words):
        if word.rpartition("/")[2] == "vllm" and list(words[at + 1 : at + 2]) == ["serve"]:
            return at + 2
        if word.endswith(_MODULES):
            return at + 1
    return None


def is_in_image(image: str) -> bool:
    """Images of vLLM's own, and copies of them by name."""
    name = re.split(r"[:@]", image.rpartition("/")[2])[0]
    return bool(_IMAGE.search(name)) and not _NO_SERVER.search(name)


def read(arguments: Sequence[str], given_by: Sequence[str]) -> CommandLine:
    """See Engine.read_command_line."""
    flags = tuple(_flags(arguments))
    taken = {flag.at + step for flag in flags for step in range(flag.words)}
    at = next((at for at, word in enumerate(arguments) if at not in taken and _is_model(arguments, at, taken)), None)
    first = None if at is None else arguments[at]
    by_flag = next((flag.value for flag in reversed(flags) if flag.name == "--model"), None)
    line = CommandLine(
        model=first or by_flag,
        flags=flags,
        own=tuple(word for i, word in enumerate(arguments) if i not in taken and i != at),
        problems=(),
    )
    two = (f"it names two models, {first} and {by_flag}",) if first and by_flag and first != by_flag else ()
    problems = (*two, *_contradictions(line, arguments, given_by), *_beyond(line))
    return CommandLine(model=line.model, flags=flags, own=line.own, problems=problems)


def _is_model(words: Sequence[str], at: int, taken: set[int]) -> bool:
    """A bare word that is no flag's value: what follows a flag that is not known here is taken for its value."""
    before = words[at - 1] if at else ""
    return not words[at].startswith("-") and (at == 0 or at - 1 in taken or "=" in before)


def _flags(words: Sequence[str]) -> Iterator[GivenFlag]:
    """NB: as argparse has it, a word that begins with a hyphen is no value, unless it is a number."""
    at = 0
    while at < len(words):
        name = _resolved(words[at])
        if name is None:
            at += 1
            continue
        _, equals, inline = words[at].partition("=")
        bare = 0
        while at + 1 + bare < len(words) and (following := words[at + 1 + bare]) and _is_value(following):
            bare += 1
        most = 0 if equals or name in ALONE else bare if name in SEVERAL else 1
        values = words[at + 1 : at + 1 + min(most, bare)]
        value = inline if equals else " ".join(values) or None
        yield GivenFlag(name=name, value=value, at=at, words=1 + len(values))
        at += 1 + len(values)


def _is_value(word: str) -> bool:
    return not word.startswith("-") or _NEGATIVE.fullmatch(word) is not None


def _resolved(word: str) -> str | None:
    """The long name of the owned flag that a word gives; None: of none."""
    if not word.startswith("--"):
        return SHORT.get(word.partition("=")[0])
    name = name_of(word).partition(".")[0]
    meant = [name] if name in OWNED else _cut_short(name)
    return ALIASES.get(meant[0], meant[0]) if len(meant) == 1 else None


def _cut_short(name: str) -> list[str]:
    return [flag for flag in OWNED if name != "--" and flag.startswith(name)]


def _contradictions(line: CommandLine, words: Sequence[str], given_by: Sequence[str]) -> Iterator[str]:
    yield from _ambiguous(words)
    yield from _unreadable(line)
    said: dict[tuple[str, str], str | None] = {}
    for flag in line.flags:
        key = (flag.name, given_by[flag.at])
        if said.setdefault(key, flag.value) != flag.value:
            values = "" if flag.name in SECRET else f", {said[key]} and {flag.value}"
            yield f"it says {flag.name} twice{values}"
    names = {name_of(word) for word in words if word.startswith("--")}
    for name in sorted(names):
        if (against := f"--no-{name[2:]}") in names:
            yield f"it says both {name} and {against}"
    size, step, active = (_size(line, name) for name in (BATCH_SIZE, STEP_TOKENS, ACTIVE))
    if size and step and step < size:
        yield f"{STEP_TOKENS} {step} is less than {BATCH_SIZE} {size}, and vLLM does not start with that"
    if size and active and active > size:
        yield f"{ACTIVE} {active} is more than {BATCH_SIZE} {size}, and vLLM does not start with that"
    longest = _size(line, MAX_MODEL_LEN)
    if step and longest and step < longest and "--no-enable-chunked-prefill" in names:
        yield f"without chunked prefill {STEP_TOKENS} {step} must hold {MAX_MODEL_LEN} {longest}"


def _ambiguous(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        name = name_of(word)
        if _ONE_WORD.match(word):
            yield f"{word.split()[0]} and its value are one word, which vLLM does not take: write two, or = between them"
        if word.startswith("--") and name not in OWNED and len(meant := _cut_short(name)) > 1:
            yield f"{name} may mean {' or '.join(meant[:3])}"


def _is_size(value: str) -> bool:
    return bool(size_of(value))


def _is_count(value: str) -> bool:
    return value.isdigit() and _is_size(value)


def _is_length(value: str) -> bool:
    return value.lower() in ("auto", "-1") or _is_size(value)


def _is_fraction(value: str) -> bool:
    try:
        return 0 < float(value) <= 1
    except ValueError:
        return False


_SIZE_WORDS = "no number above 0 that can be read here"
_READABLE: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    (BATCH_SIZE, _is_count, _SIZE_WORDS),
    (ACTIVE, _is_count, _SIZE_WORDS),
    (STEP_TOKENS, _is_size, _SIZE_WORDS),
    (KV_BYTES, _is_size, _SIZE_WORDS),
    (MAX_MODEL_LEN, _is_length, _SIZE_WORDS),
    (FRACTION, _is_fraction, "no number above 0 and at most 1"),
)
"""What the values of flags that are judged or changed here must be, for vLLM to start with them."""


def _unreadable(line: CommandLine) -> Iterator[str]:
    for name, is_readable, what in _READABLE:
        flag = line.last(name)
        if flag is not None and not is_readable(flag.value or ""):
            said = flag.value or "nothing"
            yield f"{name} says {said if len(said) <= MOST_SAID else said[:MOST_SAID] + '...'}, which is {what}"


def _beyond(line: CommandLine) -> Iterator[str]:
    """What makes several engines of one, or says in another place what it is started with."""
    for flag in line.flags:
        if OWNED[flag.name] is Owner.FILE:
            yield f"{flag.name} {flag.value} takes flags from a file, which is not read here: write them into its arguments"
        if OWNED[flag.name] is Owner.ONE_GPU and not (flag.name in SIZES and flag.value == "1"):
            yield (
                f"{flag.name} {flag.value or ''}".rstrip()
                + ": there is advice for engines with one GPU or a part of it"
            )


def _size(line: CommandLine, name: str) -> int | None:
    flag = line.last(name)
    return None if flag is None else size_of(flag.value)


def batching_of(line: CommandLine, version: str, device_bytes: int, product: str) -> Batching:
    """See Engine.batching_of. Its default is never more than the tokens of a step."""
    size, step, active = (_size(line, name) for name in (BATCH_SIZE, STEP_TOKENS, ACTIVE))
    if size is not None:
        least = min(size, active or size)
        flag = BATCH_SIZE if least == size else ACTIVE
        return Batching(batch_size=least, max_num_batched_tokens=step, because=f"{flag} says so")
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < _SINCE:
        why = f"{BATCH_SIZE} is not given, and the default of this engine (version {version}) is not known here"
        return Batching(batch_size=None, max_num_batched_tokens=step, because=why)
    if device_bytes <= 0:
        why = f"{BATCH_SIZE} is not given, and its default depends on the GPU's memory, which the measurements do not tell"
        return Batching(batch_size=None, max_num_batched_tokens=step, because=why)
    sequences, tokens = _defaults(device_bytes, product)
    doubled = any(word.endswith("throughput") for word in line.own) and any("performance" in word for word in line.own)
    sequences, tokens = sequences * (1 + doubled), step or tokens * (1 + doubled)
    return Batching(
        batch_size=min(sequences, tokens, active or sequences),
        max_num_batched_tokens=step,
        because=f"{BATCH_SIZE} is not given: the default of vLLM {version} on {product}",
    )


def _defaults(device_bytes: int, product: str) -> tuple[int, int]:
    if product == "CPU":
        return _CPU_DEFAULTS
    gib = device_bytes / GIB
    rows = [row for row in _DEFAULTS if gib >= row[0]]
    # NB: as it is done there (PR 17885), by the device's name.
    found = _DEFAULTS[-1] if "a100" in product.lower() and gib < _DEFAULTS[0][0] else rows[0]
    return found[1], found[2]


def advised_flags(line: CommandLine, advised: Advised) -> dict[str, str | None]:
    """See Engine.advised_flags. What would take the batch or its memory back goes with it."""
    batch, step, pool = advised.batch_size, advised.max_num_batched_tokens, advised.kv_bytes
    flags: dict[str, str | None] = {BATCH_SIZE: str(batch)}
    if step is None and (_size(line, STEP_TOKENS) or batch) < batch:
        step = batch
    if step is not None:
        flags[STEP_TOKENS] = str(step)
    is_small = pool is not None and ((_size(line, KV_BYTES) or pool) < pool or line.last(BLOCKS) is not None)
    if pool is not None and (advised.memory_fraction is not None or advised.frees_memory or is_small):
        flags |= {KV_BYTES: str(pool)} | ({BLOCKS: None} if line.last(BLOCKS) else {})
    if advised.memory_fraction is not None:
        flags[FRACTION] = f"{advised.memory_fraction:.2f}"
    if (active := _size(line, ACTIVE)) and active != batch:
        flags[ACTIVE] = None
    if (queued := _size(line, QUEUED)) and queued < batch:
        flags[QUEUED] = str(2 * batch)
    return flags
