"""Would a test notice? Small changes to the advisor's code, each tried on the advisor's tests.

    python hack/mutate.py --sample 200 --seed 1        # docs/mutation.md says what a run of it showed

A mutant lives in a forked process that imports it in place of the module: nothing is written, and the parent has everything
else imported already, so that a mutant costs a second. The nearest tests are tried first; all of them try what survives.
Survivors that docs/mutation.md explains are known; any other makes the run fail.
It must never change a file, nor call a mutant killed because it could not be compiled, or because no test was run.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import os
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis  # noqa: F401 - imported once for all mutants, as the three below
import jsonschema  # noqa: F401
import pytest
import slm_core.codec
import slm_core.convert  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

ROOT = Path(__file__).parents[1]
ROOMS = ("operator/slm_operator/advisor", "operator/slm_operator/estimator")
MORE = (
    "core/slm_core/batching.py",
    "core/slm_core/candidates.py",
    "core/slm_core/point_checks.py",
    "operator/slm_operator/slo/judge.py",
)
TESTS = ROOT / "tests" / "unit" / "advisor"
PAGE = ROOT / "docs" / "mutation.md"
DATA = {"gpus", "__init__"}
"""Modules that decide nothing: a table of products, of which the tests name some."""
MODULES = {
    path.stem: path
    for path in (
        *(path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))),
        *(ROOT / more for more in MORE),
    )
    if path.stem not in DATA
}
"""What decides, by the name that this command and its page have for it."""
NEAREST = {
    "estimate": ("test_estimate.py",),
    "judge": ("test_drift.py",),
    "load": ("test_load.py",),
    "validate": ("test_problems.py",),
}
ELSE_NEAREST = (
    *("test_checks.py", "test_advise.py", "test_load.py", "test_users_choice.py"),
    *("test_published.py", "test_golden.py"),
)
SECONDS_A_TEST = 30
"""A test that takes longer loops for ever."""
NO_TEST_RAN = {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED}

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.RShift: ast.LShift,
    ast.LShift: ast.RShift,
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed expression of one module, shown with what it stands in. `place` and `way` find it in the module's tree."""

    module: str
    line: int
    before: str
    after: str
    place: int
    way: int

    @property
    def name(self) -> str:
        """How the page names it."""
        return f"{self.module}: {self.before} -> {self.after}"


def changed(node: ast.AST) -> Iterator[ast.AST]:
    """Every way in which this one node is changed."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            for place, operator in enumerate(ops):
                if other := COMPARISONS.get(type(operator)):
                    yield ast.Compare(left, [*ops[:place], other(), *ops[place + 1 :]], others)
        case ast.BoolOp(op=either, values=values):
            yield ast.BoolOp(ast.And() if isinstance(either, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield ast.Call(ast.Name("bool", ast.Load()), [operand], [])
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATORS:
            yield ast.BinOp(left, OPERATORS[type(sign)](), right)
        case ast.Constant(value=bool() | int() | float() as value):
            yield ast.Constant(_other(value))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))


def _other(value: float) -> float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 1.5 + 0.001


def unread(tree: ast.Module) -> Iterator[ast.AST]:
    """Parts that only readers and type checkers see: annotations, docstrings, imports for them, decorators' options."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()):
                yield node.value
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Call(func=ast.Name(id="dataclass")):
                yield from ast.walk(node)
            case ast.arg(annotation=ast.expr() as note) | ast.AnnAssign(annotation=note):
                yield from ast.walk(note)
            case ast.FunctionDef(returns=ast.expr() as note):
                yield from ast.walk(note)


class _Replacement(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def mutants(module: Path) -> Iterator[Mutant]:
    """Every mutant of one file."""
    tree = ast.parse(module.read_text())
    skipped = {id(node) for node in unread(tree)}
    above = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for place, node in enumerate(list(ast.walk(tree))):
        for way, new in enumerate(() if id(node) in skipped else changed(node)):
            around = above[id(node)] if isinstance(node, ast.Constant) else node
            before = ast.unparse(around)
            after = ast.unparse(_Replacement(node, new).visit(around))
            _Replacement(new, node).visit(around)
            yield Mutant(module.stem, getattr(node, "lineno", 0), before, after, place, way)


def source(mutant: Mutant) -> str:
    """The whole module with this change."""
    tree = ast.parse(MODULES[mutant.module].read_text())
    old = list(ast.walk(tree))[mutant.place]
    return ast.unparse(_Replacement(old, list(changed(old))[mutant.way]).visit(tree))


class _Imported(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant when its module is asked for."""

    def __init__(self, mutant: Mutant) -> None:
        path = MODULES[mutant.module]
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts[1:])
        self.code = compile(source(mutant), str(path), "exec")

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        del path, target
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


def passes(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Whether these tests pass, in a process of their own; without a mutant, on the code as it is."""
    finder = _Imported(mutant) if mutant is not None else None
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        status = 1
        try:
            if finder is not None:
                sys.meta_path.insert(0, finder)
            options = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore", f"--timeout={SECONDS_A_TEST}")
            status = int(pytest.main([*options, *(str(TESTS / test) for test in tests)]))
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code in NO_TEST_RAN:
        raise SystemExit(f"pytest runs none of {', '.join(tests)} in {TESTS}: exit status {code}")
    return code == pytest.ExitCode.OK


def explained() -> set[str]:
    """Survivors that the page gives a reason for: the first cell of its table's rows."""
    return set(re.findall(r"^\| `(\w+: .+? -> .+?)` \|", PAGE.read_text(), re.MULTILINE))


def main() -> int:
    """The command: 0 when every survivor is explained."""
    arguments = _parser().parse_args()
    os.chdir(ROOT)
    every = sorted(path.name for path in TESTS.glob("test_*.py"))
    if not passes(None, every):
        print("the advisor's tests fail as they are: fix them first", file=sys.stderr)
        return 2
    modules = arguments.module or list(MODULES.values())
    found = [mutant for module in modules for mutant in mutants(module)]
    tried = random.Random(arguments.seed).sample(found, min(arguments.sample, len(found)))
    known, started, count = explained(), time.monotonic(), Counter[str]()
    if not arguments.module and (stale := known - {mutant.name for mutant in found}):
        print(f"{PAGE.name} explains what is no mutant any more: {'; '.join(sorted(stale))}", file=sys.stderr)
        return 2
    for mutant in tried:
        alive = passes(mutant, NEAREST.get(mutant.module, ELSE_NEAREST)) and passes(mutant, every)
        fate = "killed" if not alive else "explained" if mutant.name in known else "survived"
        count[fate] += 1
        if alive:
            print(f"{fate} {MODULES[mutant.module].relative_to(ROOT)}:{mutant.line}\n| `{mutant.name}` |", flush=True)
    print(
        f"{len(tried)} of {len(found)} mutants, seed {arguments.seed}: {count['killed']} killed, {count['explained']} "
        f"explained, {count['survived']} survived; {time.monotonic() - started:.0f} s"
    )
    return 1 if count["survived"] else 0


def _module(name: str) -> Path:
    if name not in MODULES:
        raise argparse.ArgumentTypeError(f"no module that decides is called {name!r}")
    return MODULES[name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Mutants of the advisor that its tests do not notice.")
    parser.add_argument("module", nargs="*", type=_module, help="modules of the advisor, as `checks`; default: all")
    parser.add_argument("--sample", type=int, default=200, help="how many mutants to try (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
