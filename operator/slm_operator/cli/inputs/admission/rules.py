"""The CEL rules of a schema, asked as the API server asks them when an object is created.

Must never hold a rule: they are the schema's. Functions are Kubernetes' own, with its semantics (Kubernetes, "Common
Expression Language in Kubernetes"): a rule that uses another is refused by a test, before a manifest meets it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cel
from cel import stdlib

from slm_operator.cli.inputs.admission.findings import Finding, Reason, Schema, below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CANNOT = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)
"""Raised where a rule has no value for an object, a field that is not there for instance. The API server refuses then.
RuntimeError is how the library tells of what a function raised."""

_MATCHES = re.compile(r"""[rR]?'(?:[^'\\]|\\.)*'|[rR]?"(?:[^"\\]|\\.)*"|\bmatches(?=\()""")
"""`matches`, and the texts of a rule, in which it is no function.

NB: to the library's own `matches` a blank is any of Unicode's. It cannot be registered anew, so rules are read with another
name in its place. Its `size` differs too: it counts the bytes of a text; no rule uses it, and a test refuses one that does.
"""


def findings(value: object, schema: Schema, path: str = "") -> Iterator[Finding]:
    """What the rules of a schema say to a value that the schema's own checks took."""
    own = schema.get("x-kubernetes-validations", ())
    if own:
        me = typed(value, schema)
        yield from (found for rule in own if (found := _asked(rule, me, path)) is not None)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        for name, inner in value.items():
            if name in known:
                yield from findings(inner, known[name], below(path, name))
            elif "additionalProperties" in schema:
                yield from findings(inner, schema["additionalProperties"], f"{path}[{name}]")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from findings(item, schema["items"], below(path, index))


@lru_cache(maxsize=256)
def program(rule: str) -> cel.Program:
    """A rule that can be executed with FUNCTIONS. Raises ValueError for what is not CEL."""
    return cel.compile(_MATCHES.sub(lambda found: "re2Matches" if found[0] == "matches" else found[0], rule))


def _asked(rule: dict[str, Any], me: object, path: str) -> Finding | None:
    asks = program(rule["rule"])
    if "oldSelf" in asks.variables():  # of a change; there is nothing yet
        return None
    message = rule.get("message") or f"failed rule: {rule['rule']}"
    try:
        holds = asks.execute(context(me))
    except _CANNOT as error:
        message = f"{message} ({error})"
        holds = False
    return None if holds else Finding(f"{path}{rule.get('fieldPath', '')}".lstrip("."), Reason.RULE, message)


def context(me: object, **others: object) -> cel.Context:
    """What a program is executed in."""
    return cel.Context(variables={"self": me, **others}, functions=FUNCTIONS)


_RESERVED = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
    "loop", "package", "namespace", "return", "var", "void", "while",
})  # fmt: skip
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))


def typed(value: Any, schema: Schema) -> Any:
    """A value as a rule sees it: numbers by their schema's type, fields by names that CEL can say.

    NB: of a raw object a rule sees nothing, and it may be nested deeply enough to end the library's process.
    """
    if isinstance(value, dict):
        known, entries = schema.get("properties", {}), schema.get("additionalProperties")
        fields = {_escaped(name): typed(inner, known[name]) for name, inner in value.items() if name in known}
        return fields if entries is None else {name: typed(inner, entries) for name, inner in value.items()}
    if isinstance(value, list):
        return [typed(item, schema.get("items", {})) for item in value]
    return float(value) if schema.get("type") == "number" else value


def _escaped(name: str) -> str:
    if name in _RESERVED:
        return f"__{name}__"
    for sign, escape in _ESCAPES:
        name = name.replace(sign, escape)
    return name


@lru_cache(maxsize=256)
def _re2(expression: str) -> re.Pattern[str]:
    """NB: RE2's `$` is the end of the text; Python's is also before a newline that ends it."""
    ends = re.sub(r"\\.|\$", lambda found: r"\Z" if found[0] == "$" else found[0], expression)
    return re.compile(ends, re.ASCII)


def _matches(text: str, expression: str) -> bool:
    return _re2(expression).search(text) is not None


FUNCTIONS: dict[str, Callable[..., Any]] = {"re2Matches": _matches, "replace": stdlib.replace, "split": stdlib.split}
"""Functions of rules that CEL itself has not: those that are used. What else a rule uses, the library has: contains, has, all."""
