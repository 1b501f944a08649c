"""The port stays closed: no word of an engine stands in product code outside `core/slm_core/engines`.

Descriptions are free to name one: they are docstrings, and what a person reads.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from slm_core.engines.registry import ENGINES
from slm_operator import main
from slm_operator.cli.arguments import parser as kubectl_slm
from slm_runtime import cli

ROOT = Path(__file__).parents[3]
PORT = ROOT / "core" / "slm_core" / "engines"
BENCHMARK = "vllm bench serve"
"""A tool that measures any engine: its name is none of an engine's words."""
ELSEWHERE = {
    "core/slm_core/measurements.py": "documents that name no engine are of the time when there was one",
    "operator/slm_operator/cli/inputs/workloads/kserve.py": "a variable of KServe's, with the engine's name in its own",
}


def words_of_our_commands() -> set[str]:
    """Flags of the profiler, of kubectl slm and of the operator, some of which are an engine's too."""
    tops = (cli._parser(), kubectl_slm(), main._parser())
    commands = [one for top in tops for one in top._subparsers._group_actions[0].choices.values()]  # type: ignore[union-attr]
    return {flag for one in commands for flag in one._option_string_actions}


def words_of_engines() -> set[str]:
    found = {engine.name for engine in ENGINES}
    for engine in ENGINES:
        paths = engine.paths
        found |= (
            engine.owned_flags.keys()
            | engine.harmless_flags
            | engine.refused_variables.keys()
            | engine.environment.keys()
        )
        found |= {paths.health, paths.models, paths.tokenize, engine.image, *engine.pinned_to([0])}
    return found - words_of_our_commands()


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts in code: docstrings, of fields too, are none."""
    described = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            yield node.lineno, node.value


def leaks(source: str, words: set[str]) -> list[str]:
    whole = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    named = "|".join(sorted(word for word in words if word.isalpha()))
    found = re.compile(rf"(?<![\w-])(?:{whole})(?![\w-])|(?i:{named})")
    return [
        f"line {line}: {word[0]} in {text[:80]!r}"
        for line, text in ((at, said.replace(BENCHMARK, "")) for at, said in texts(ast.parse(source)))
        for word in found.finditer(text)
    ]


@pytest.mark.parametrize("room", ["core/slm_core", "operator/slm_operator", "runtime/slm_runtime"])
def test_no_word_of_an_engine_is_written_outside_the_port(room: str) -> None:
    files = [file for file in (ROOT / room).rglob("*.py") if PORT not in file.parents]
    assert files
    words = words_of_engines()
    found = {str(file.relative_to(ROOT)): leaks(file.read_text(), words) for file in files}
    assert {name: lines for name, lines in found.items() if lines and name not in ELSEWHERE} == {}


def test_listed_exceptions_do_name_an_engine() -> None:
    assert all(leaks((ROOT / name).read_text(), words_of_engines()) for name in ELSEWHERE)


def test_engine_word_in_code_is_found_and_in_docstring_is_not() -> None:
    source = '"""Of vllm."""\nargs = ["--max-num-seqs"]\nname = f"vllm:{args}"\n'
    assert [one.partition(":")[0] for one in leaks(source, words_of_engines())] == ["line 2", "line 3"]
