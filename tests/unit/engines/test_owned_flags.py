"""The rules on `spec.engine.args` against what vLLM's own parser makes of the same words.

The parser is rebuilt from the list of its options (`tests/testbed/vllm_options.py`) and from the two things that
FlexibleArgumentParser does before argparse sees a word: `_` becomes `-` in names, and a key after a dot becomes JSON.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import cel
import pytest
from cel.stdlib import add_stdlib_to_context
from slm_core.engines.registry import default
from slm_operator.api import owned_flags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
OPTIONS = json.loads((ROOT / "data/vllm/options.json").read_text())["options"]
LONG = sorted(name for one in OPTIONS for name in one["names"] if name.startswith("--"))
ONE_HYPHEN = sorted(name for one in OPTIONS for name in one["names"] if not name.startswith("--"))
OWNED = {*default().owned_flags, *default().short_flags}
RULES = [(cel.compile(rule), message) for rule, message in (*owned_flags.rules(), owned_flags.command_rule())]


def refused(*args: str) -> list[str]:
    """Messages of the rules that these arguments break."""
    return broken({"args": list(args)})


def broken(engine: dict[str, list[str]]) -> list[str]:
    asked = cel.Context(variables={"self": engine})
    add_stdlib_to_context(asked)
    return [message for rule, message in RULES if not rule.execute(asked)]


class RefusedError(Exception):
    """What the engine would print before it ends."""


class Parser(argparse.ArgumentParser):
    """As vLLM's, as far as names go."""

    def error(self, message: str) -> NoReturn:
        raise RefusedError(message)


@cache
def parser() -> Parser:
    made = Parser(add_help=False)
    made.add_argument("model_tag", nargs="?")
    for one in OPTIONS:
        how = {"action": "store_const", "const": True} if one["values"] == 0 else {"nargs": one["values"]}
        made.add_argument(*one["names"], dest=one["names"][0], **how)  # type: ignore[arg-type]
    return made


def named_by(word: str) -> set[str]:
    """The options that this word gives, or may give where it is ambiguous."""
    name = word.partition("=")[0].partition(".")[0]
    if name.startswith("--"):
        name = name.replace("_", "-")
    try:
        given, _ = parser().parse_known_args(["model", name, "7"])
    except RefusedError as error:
        return {one.strip() for one in str(error).partition("could match ")[2].split(",")}
    found = {flag for flag, value in vars(given).items() if value is not None and flag != "model_tag"}
    return {flag for one in OPTIONS if one["names"][0] in found for flag in one["names"]}


def spelled(name: str) -> Iterator[str]:
    yield from (name, f"{name}=7", f"{name}.key", f"{name}.key=7")
    if name.startswith("--"):
        yield from (
            "--" + name[2:].replace("-", "_"),
            "--" + name[2:].replace("-", "_", 1),
            f"{name.replace('-', '_')[2:]}",
        )


def cut_short(names: Sequence[str]) -> list[str]:
    """Every beginning of these names that says more than that a name follows."""
    return sorted({name[:end] for name in names for end in range(2, len(name)) if name[:end] != "--"})


@pytest.mark.parametrize("flag", sorted(OWNED))
def test_an_owned_flag_is_refused_however_it_is_spelled(flag: str) -> None:
    words = [word for word in spelled(flag) if word.startswith("-")]
    assert [word for word in words if not refused(word)] == []
    assert flag in LONG or flag in ONE_HYPHEN


@pytest.mark.slow
def test_unowned_option_is_taken_however_it_is_spelled() -> None:
    free = [name for name in (*LONG, *ONE_HYPHEN) if name not in OWNED]
    assert len(free) > 300
    assert [word for name in free for word in spelled(name) if refused(word)] == []


@pytest.mark.slow
def test_abbreviation_is_refused_if_it_may_mean_an_owned_flag() -> None:
    """In whatever way the parser takes it: as one option, or as too many to know which."""
    wrong = []
    for word in (*LONG, *ONE_HYPHEN, *cut_short((*LONG, *ONE_HYPHEN))):
        meant = named_by(word)
        assert meant, f"{word} begins a name, so the parser knows it"
        if bool(refused(word)) != bool(meant & OWNED):
            wrong.append((word, meant))
    assert wrong == []


@pytest.mark.parametrize("word", ["-n2", "-r1", "-tp=2", "-t"])
def test_one_hyphen_owned_flag_with_its_value_is_refused(word: str) -> None:
    assert refused(word)


def test_every_name_of_an_owned_option_is_owned() -> None:
    halves = [one["names"] for one in OPTIONS if OWNED & set(one["names"]) and not set(one["names"]) <= OWNED]
    assert halves == []


def test_no_option_of_another_engine_is_called_owned() -> None:
    assert {*LONG, *ONE_HYPHEN} >= OWNED | default().free_flags


TAKEN = [
    ["--max-num-scheduled-tokens", "512"],
    ["--model-impl", "vllm"],
    ["--enforce-eager"],
    ["-O3"],
    ["-O.mode", "3"],
    ["--hf-overrides", "{}"],
    ["--hf-overrides.max_num_seqs", "7"],
    ["--hf-overrides", '{"max-num-seqs": 7}'],
    ['--compilation-config={"a b": 1}'],
    ["--seed", "-1"],
    ["--seed", "-1.5"],
    ["--tool-parser-plugin", ""],
    ["--chat-template", "{{ a }} --max-num-seqs 7"],
    ["--chat-template", "-"],
    ["-dc", "{}"],
    ["-q", "fp8"],
    ["--unknown-of-a-newer-engine", "7"],
    [],
]


@pytest.mark.parametrize("args", TAKEN, ids=[" ".join(args) or "none" for args in TAKEN])
def test_tuning_flag_is_taken(args: list[str]) -> None:
    assert refused(*args) == []


REMEDIES = [
    (["--max-num-seqs", "7"], "set by the advice"),
    (["--enforce-eager", "--max_num_seq=7"], "set by the advice"),
    (["--kv-cache-memory-bytes", "4G"], "set by the advice"),
    (["--device-memory-util", "0.3"], "set by the advice"),
    (["--dtype=half"], "spec.engine.dtype"),
    (["--no-trust-remote-code"], "spec.model."),
    (["-tp", "2"], "one GPU or a share of it"),
    (["--config", "/etc/vllm.yaml"], "a file may hold flags that the operator sets"),
    (["--disable-log-stats"], "reads the engine's metrics"),
    (["--api-key", "k"], "give VLLM_API_KEY in spec.engine.env instead, from a Secret"),
    (["--hf-token=t"], "spec.model.credentialsSecretRef"),
    (["--max-num-queued-tokens", "4096"], "set by the advice"),
    (["--enable-fault-tolerance"], "one GPU or a share of it"),
    (["--uds", "/run/socket"], "over plain HTTP on one port"),
    (["--seed 7"], "write two items"),
    (["--max-num-seqs 7"], "write two items"),
    (["--enforce-eager\n"], "write two items"),
    (["--"], "-- ends the flags"),
    (["--=7"], "-- ends the flags"),
]


@pytest.mark.parametrize(("args", "remedy"), REMEDIES, ids=[" ".join(args) for args, _ in REMEDIES])
def test_the_message_says_what_to_do_instead(args: list[str], remedy: str) -> None:
    (message,) = refused(*args)
    assert remedy in message


COMMANDS_REFUSED = [
    ["vllm", "serve", "--max-num-seqs", "7"],
    ["vllm", "serve", "--max_num_seq=7"],
    ["vllm", "serve", "-tp", "2"],
    ["vllm", "serve", "-dp=2"],
    ["python3", "-m", "vllm.entrypoints.openai.api_server", "--api-key=k"],
    ["nice", "-n", "5", "vllm", "serve", "--config", "/etc/vllm.yaml"],
]


@pytest.mark.parametrize("command", COMMANDS_REFUSED, ids=[" ".join(words) for words in COMMANDS_REFUSED])
def test_an_owned_flag_in_the_command_is_refused_too(command: list[str]) -> None:
    (message,) = broken({"command": command})
    assert message.startswith("command must not hold a flag that the operator sets")


COMMANDS_TAKEN = [
    ["vllm", "serve"],
    ["python3", "-u", "-m", "vllm.entrypoints.openai.api_server"],
    ["nice", "-n", "5", "vllm", "serve"],
    ["tini", "--", "vllm", "serve"],
    ["numactl", "--physcpubind=0-3", "--membind", "0", "vllm", "serve"],
    ["nsys", "profile", "-t", "cuda", "--trace=nvtx", "vllm", "serve"],
    ["sh", "-c", 'exec vllm serve "$@"', "-"],
    ["vllm", "serve", "--enforce-eager"],
]


@pytest.mark.parametrize("command", COMMANDS_TAKEN, ids=[" ".join(words) for words in COMMANDS_TAKEN])
def test_custom_engine_command_is_taken(command: list[str]) -> None:
    assert broken({"command": command}) == []
