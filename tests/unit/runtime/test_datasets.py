"""Files of requests as people have them: read by role, and nothing in them ends a profile but too little of use."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slm_core.failure import Failure, ProfileError
from slm_runtime import datasets, entries
from slm_runtime.datasets import Conversations, counted, read_dataset
from slm_runtime.workload import Lengths

FIELD = Path(__file__).parents[2] / "data/field/datasets"
QUESTION, ANSWER = "a short question", "an answer of some length " * 12
SYSTEM = "You are a patient helper. " * 20


def read(path: Path) -> tuple[tuple[str, str], ...]:
    found = read_dataset(str(path))
    assert isinstance(found, Conversations)
    return found.texts


def counts(path: Path) -> tuple[tuple[int, int], ...]:
    found = read_dataset(str(path))
    assert isinstance(found, Lengths)
    return found.pairs


@pytest.mark.parametrize("name", ["gpt-first.json", "two-humans.json", "lines.jsonl", "openai-messages.json"])
def test_a_request_is_the_first_question_and_its_answer(name: str) -> None:
    assert read(FIELD / name) == ((QUESTION, ANSWER),) * 3


def test_the_system_prompt_is_part_of_the_prompt() -> None:
    assert read(FIELD / "system-first.json") == ((f"{SYSTEM}\n{QUESTION}", ANSWER),) * 3


def said(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


TURNS: dict[str, tuple[Any, tuple[str, str]]] = {
    "a list of turns": ([{"role": "User", "content": "q"}, {"role": "Assistant", "content": "a"}], ("q", "a")),
    "a conversation": ({"conversation": [{"role": "user", "content": "q"}, {"from": "gpt", "value": "a"}]}, ("q", "a")),
    "parts": (said(("user", [{"type": "text", "text": "q"}, "more"]), ("assistant", "a")), ("q\nmore", "a")),
    "a tool between": (
        said(("user", "q"), ("assistant", None), ("tool", "42"), ("assistant", "a")),
        ("q", "a"),
    ),
    "an empty system prompt": (said(("system", ""), ("user", "q"), ("assistant", "a")), ("q", "a")),
    "a later system prompt": (said(("user", "q"), ("system", "s"), ("assistant", "a")), ("q", "a")),
    "prompt and completion": ({"Prompt": "q", "completion": "a"}, ("q", "a")),
}


@pytest.mark.parametrize("case", TURNS)
def test_conversations_of_other_shapes(case: str, tmp_path: Path) -> None:
    entry, request = TURNS[case]
    (tmp_path / "list.json").write_text(json.dumps([entry], indent=1))
    assert read(tmp_path / "list.json") == (request,)
    if isinstance(entry, dict):
        (tmp_path / "lines.jsonl").write_text(json.dumps(entry) + "\n\n" + json.dumps(entry))
        assert read(tmp_path / "lines.jsonl") == (request, request)


TRACES = {
    "Azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50,396,109\n",
    "BurstGPT": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,374,44,418,x\n6,GPT-4,396,109,9,x\n",
    "semicolons": 'a;"Input_Tokens";output_tokens\n0;374;44\n1;396.0;109\n',
    "Mooncake": '{"timestamp": 0, "input_length": 374, "output_length": 44, "hash_ids": [0]}\n{"input_length": 396, "output_length": 109}',
    "a list": '[{"input_length": "374", "output_length": 44}, {"input_length": 396, "output_length": 109}]',
}


@pytest.mark.parametrize("case", TRACES)
def test_token_counts_need_no_tokenizer(case: str, tmp_path: Path) -> None:
    (tmp_path / "trace").write_text(TRACES[case])
    assert counts(tmp_path / "trace") == ((374, 44), (396, 109))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read_over(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(json.dumps([said(("user", "é"), ("assistant", "ü"))]), encoding=encoding)
    assert read(tmp_path / "f") == (("é", "ü"),)


def test_one_bad_text_is_skipped_and_counted(tmp_path: Path) -> None:
    good, bad = said(("user", "hello"), ("assistant", "hi")), said(("user", "smile \ud83d"), ("assistant", "fine"))
    (tmp_path / "f.json").write_text(json.dumps([bad, *[good] * 9]))
    found = read_dataset(str(tmp_path / "f.json"))
    assert isinstance(found, Conversations)
    assert len(found.texts) == 9
    assert found.source.endswith(" (skipped: 1 whose text cannot be read)")


def test_a_source_is_the_files_name_and_digest_in_plain_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"odd\xff")
    path.write_text(json.dumps([said(("user", "hello"), ("assistant", "hi"))]))
    assert read_dataset(str(path)).source == f"odd? sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def test_one_bad_text_ends_no_profile() -> None:
    assert read(FIELD / "one-lone-surrogate.json") == (("hello there", "hello to you"),)


def test_many_bad_texts_are_another_workload(tmp_path: Path) -> None:
    good, bad = said(("user", "hello"), ("assistant", "hi")), said(("user", "smile \ud83d"), ("assistant", "fine"))
    (tmp_path / "f").write_text(json.dumps([*[good] * 7, *[bad] * 3]))
    with pytest.raises(
        ProfileError, match=r"7 of 10 entries can be used \(skipped: 3 whose text cannot be read\)"
    ) as why:
        read_dataset(str(tmp_path / "f"))
    assert why.value.failure is Failure.WORKLOAD


def test_conversations_that_nobody_answered_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(json.dumps([said(("user", "q"), ("assistant", "a")), *[said(("user", "q"))] * 9]))
    found = read_dataset(str(tmp_path / "f"))
    assert "(skipped: 9 without a question and an answer to it)" in found.source


DEEP = "[" * 5000
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "it is empty"),
    "blank": (" \n ", "it is empty"),
    "a list of nothing": ("[]", "0 of 0 entries"),
    "words": ("hello\nworld", "neither JSON nor CSV"),
    "another CSV": ("a,b\n1,2\n", "neither JSON nor CSV"),
    "deep": (DEEP, "nested too deeply"),
    "deep, with an end": (DEEP + "]" * 5000, "nested too deeply"),
    "deep inside": ('[{"a":' + DEEP, "nested too deeply"),
    "a deep line": ('{"a":' + DEEP, "0 of 1 entries"),
    "cut short": ('[{"messages": [', "entry 1 of its list"),
    "cut after a comma": ('[{"a": 1}, ', "entry 2 of its list"),
    "compressed": (b"\x1f\x8b\x08\x00abc", "compressed"),
    "bytes": (b"\x00\x01\xff\xfe", "neither JSON nor CSV"),
    "an endless quote": (TRACES["Azure"] + '"' + "1" * 200_000, "it is not CSV"),
    "an object of something": ('{\n  "data": []\n}', "entries can be used"),
    "turns of nobody": (
        '[{"conversations": [{"value": "hi"}, {"value": "hello"}]}]',
        "1 whose turns do not say who speaks",
    ),
    "numbers": ("[1, 2, null, true, 1e999]", "5 of no known shape"),
    "turns that are numbers": ('[{"conversations": [1, 2]}]', "1 of no known shape"),
    "no tokens": ("ContextTokens,GeneratedTokens\n0,5\n-1,5\nnan,5\n1e400,5\n,5\nx\n1.5,5\n", "7 whose token counts"),
    "true tokens": ('{"input_length": true, "output_length": 2}', "1 whose token counts"),
    "huge tokens": (f'{{"input_length": {"9" * 9000}, "output_length": 2}}', "1 whose token counts"),
    "pictures": (json.dumps(said(("user", [{"type": "image_url"}]), ("assistant", "a"))), "1 whose text"),
    "a text as a number": (json.dumps(said(("user", 7), ("assistant", "a"))), "1 whose text"),
    "no UTF-8": (b'{"prompt": "\xff", "completion": "a"}', "1 whose text"),
    "long": (json.dumps({"prompt": "a" * (datasets.MOST_TEXT + 1), "completion": "a"}), "1 with a text of more than"),
    "a mixture": (
        '{"prompt": "q", "completion": "a"}\n{"input_length": 1, "output_length": 2}',
        "texts and token counts",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_file_is_refused_in_one_sentence(case: str, tmp_path: Path) -> None:
    content, words = REFUSED[case]
    (tmp_path / "f").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ProfileError) as why:
        read_dataset(str(tmp_path / "f"))
    assert words in str(why.value)
    assert "\n" not in str(why.value)
    assert case == "a mixture" or "ShareGPT" in str(why.value), "what is taken instead"


@pytest.mark.parametrize(("form", "words"), [("[{}]", "entry 1 of its list"), ("{}", "a line is longer than 4,096")])
def test_an_entry_without_a_bound_is_refused(
    form: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MOST_ENTRY", 1 << 12)
    monkeypatch.setattr(entries, "PIECE", 1 << 10)
    long = json.dumps(said(("user", "q" * (1 << 14)), ("assistant", "a")))
    (tmp_path / "f").write_text(form.replace("{}", long))
    with pytest.raises(ProfileError, match=words):
        read_dataset(str(tmp_path / "f"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        read_dataset(str(tmp_path / "none.json"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),  # surrogates too
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("conversations", "messages", "role", "from", "value", "content", "prompt", "completion"))
            | st.sampled_from(("input_length", "output_length", "text")),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(values, max_size=4), st.sampled_from(("\n", "")), st.integers(0, 30))
@settings(max_examples=100, deadline=None)
def test_no_content_is_anything_but_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Any], gap: str, cut: int
) -> None:
    text = gap.join(map(json.dumps, entries)) if gap else json.dumps(entries)
    path = tmp_path_factory.getbasetemp() / "any-content"
    path.write_bytes(text[: len(text) - cut].encode(errors="surrogatepass"))
    try:
        read_dataset(str(path))
    except ProfileError as why:
        assert "\n" not in str(why)  # noqa: PT017 - both endings are right


def test_a_long_list_costs_the_memory_of_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "PIECE", 1 << 12)
    entry = json.dumps(said(("user", "q" * 500), ("assistant", "a" * 500)))
    (tmp_path / "f").write_text("[" + ", ".join([entry] * 4000) + "]")
    tracemalloc.start()
    assert len(read(tmp_path / "f")) == datasets.MOST_REQUESTS
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "f").stat().st_size


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ("", "\n")], ids=["a list", "lines"])
def test_an_entry_too_long_to_be_kept_is_refused(
    start: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "PIECE", 1 << 6)
    monkeypatch.setattr(entries, "MOST_ENTRY", 1 << 9)
    entry = json.dumps({"prompt": "q" * 4000, "completion": "a"})
    (tmp_path / "f").write_text(start + entry + end)
    with pytest.raises(ProfileError, match="longer than 512 characters"):
        read(tmp_path / "f")


def test_text_that_the_engine_refuses_to_count_is_left_out() -> None:
    chats = Conversations((("q", "a"),) * 10, "chats")
    assert counted(chats, [5, 7] * 10).source == "chats"
    lengths = counted(chats, [5, 7] * 9 + [5, None])
    assert lengths.pairs == ((5, 7),) * 9
    assert lengths.source == "chats (left out: 1 of 10 with a text that the engine's tokenizer refuses)"
    with pytest.raises(ProfileError, match="3 of 10 with a text"):
        counted(chats, [5, 7] * 7 + [None, 7] * 3)
