"""The output of several engines in one."""

import asyncio
import os
import threading

import pytest
from slm_runtime.serve import output
from slm_runtime.serve.output import LONGEST_BYTES, Output, Tail, split


async def followed(said: list[bytes], tail: Tail) -> bytes:
    """What is written of it."""
    written: list[bytes] = []
    out = Output(written.append)
    ours, theirs = os.pipe()
    following = asyncio.create_task(out.follow("engine 3", ours, tail))
    for part in said:
        await asyncio.to_thread(os.write, theirs, part)
    os.close(theirs)
    await following
    await out.close()
    return b"".join(written)


async def test_every_line_has_its_engines_name() -> None:
    assert await followed([b"one\ntw", b"o\n\nlast"], Tail(100)) == (
        b"[engine 3] one\n[engine 3] two\n[engine 3] \n[engine 3] last\n"
    )


async def test_the_tail_keeps_the_last_words_only() -> None:
    tail = Tail(8)
    await followed([b"x" * 100 + b"\n", b"the end\n"], tail)
    assert tail.text() == "the end\n"


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    whole, begun = split(b"y" * (2 * LONGEST_BYTES + 5))
    assert ([len(line) for line in whole], len(begun)) == ([LONGEST_BYTES, LONGEST_BYTES], 5)


async def test_a_reader_who_is_slow_holds_up_no_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "CLOSE_SECONDS", 0.01)
    reads = threading.Event()
    out = Output(lambda _: reads.wait())
    for _ in range(1000):
        out.say("a line")  # comes back although nobody reads
    await out.close()
    reads.set()


async def test_a_reader_who_has_gone_ends_nothing() -> None:
    def write(_: bytes) -> None:
        raise BrokenPipeError

    out = Output(write)
    ours, theirs = os.pipe()
    following = asyncio.create_task(out.follow("engine 0", ours, tail := Tail(100)))
    os.write(theirs, b"still heard\n")
    os.close(theirs)
    await following
    await out.close()
    assert tail.text() == "still heard\n"
