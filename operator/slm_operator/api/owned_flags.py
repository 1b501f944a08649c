"""Which words of `spec.engine.args` and `.command` are refused, and what replaces them: rules made from the engines' tables.

An engine's parser takes a flag under many names: cut short as long as no other begins so, with `_` for `-`, with its
value after `=`, by a name with one hyphen, or with a key after a dot. Every one of them is refused for a flag that the
operator owns, and an abbreviation that several flags share is too, for the engine would not start with it. Must use
nothing of CEL that `kubectl slm plan` could not evaluate offline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.engines.base import Owner
from slm_core.engines.registry import ENGINES

if TYPE_CHECKING:
    from collections.abc import Iterable

OWNERS = {
    Owner.MODEL: "spec.model.uri",
    Owner.SERVED_NAME: "spec.model.name",
    Owner.REVISION: "spec.model.revision",
    Owner.REMOTE_CODE: "spec.model.remoteCode",
    Owner.MAX_MODEL_LEN: "spec.engine.maxModelLen",
    Owner.DTYPE: "spec.engine.dtype",
    Owner.ADVICE: "the advice",
    Owner.OPERATOR: "the operator",
    Owner.HTTP: "the operator, which asks every engine over plain HTTP on one port",
    Owner.METRICS: "the operator, which reads the engine's metrics",
    Owner.LOG: "the profiler, which reads the engine's log (variables in spec.engine.env may say the level of a served one)",
    Owner.FILE: "nobody, since a file may hold any owned flag (write its other flags into args)",
    Owner.ONE_GPU: "nobody, since an engine has one GPU or a share of it",
    Owner.API_KEY: "you, in spec.engine.env, from a Secret",
    Owner.CREDENTIALS: "spec.model.credentialsSecretRef",
}
"""Who or what sets the flags of an owner, as docs/reference/api.md and the messages say it."""
OWNED_FLAGS = {flag: OWNERS[owner] for engine in ENGINES for flag, owner in engine.owned_flags.items()}
"""Flags of engines that the operator sets, and from what. Given by hand they would contradict what was measured."""
SHORT_FLAGS = {short: flag for engine in ENGINES for short, flag in engine.short_flags.items()}
"""Their names with one hyphen."""
MOST_NAMED = 4
"""Flags in one message; docs/reference/api.md lists all."""

_WHY = {
    Owner.FILE: "a file may hold flags that the operator sets: write its other flags into args",
    Owner.ONE_GPU: "an engine has one GPU or a share of it",
    Owner.API_KEY: "everybody who may see the pod would see it: give "
    + " or ".join(engine.key_variable for engine in ENGINES if engine.key_variable)
    + " in spec.engine.env instead, from a Secret",
}
"""What a message says of flags that nobody sets."""

Rule = tuple[str, str]
"""A rule in CEL on an engine's spec, and the message that says what to do."""

_KEY = "a.split('=')[0].split('.')[0].replace('_', '-')"
"""The name of a flag, as the parser reads it from a word."""
_ONE_WORD = "one item holds a flag and its value, which no engine takes: write two items, or = between them"
_NO_FLAG = "-- ends the flags, and those of the operator follow it: remove it from args"


def rules() -> list[Rule]:
    """One rule for each owner, and two for words that no parser takes."""
    owned = [_rule(owner) for owner in OWNERS if _flags_of(owner)]
    return [
        *owned,
        (_every("!a.matches('^--?[A-Za-z][^=\\\\s]*\\\\s')"), _ONE_WORD),
        (_every("!a.matches('^--([.=]|$)')"), _NO_FLAG),
    ]


def command_rule() -> Rule:
    """The same for the command, in one rule.

    NB: a command may begin with a program that is no engine (nice -n 5, tini --), so names of one letter and the bare
    `--` are its own.
    """
    shorts = [short for short in SHORT_FLAGS if len(short) > len("-n")]
    refused = (
        f"k in {_list(shorts)} || (k.startsWith('--') && k != '--' && {_list(OWNED_FLAGS)}.exists(f, f.startsWith(k)))"
    )
    rule = f"!has(self.command) || self.command.all(a, !a.startsWith('-') || [{_KEY}].all(k, !({refused})))"
    return (
        rule,
        "command must not hold a flag that the operator sets (docs/reference/api.md lists them), under any name: remove it",
    )


def _rule(owner: Owner) -> Rule:
    flags = _flags_of(owner)
    shorts = [short for short, flag in SHORT_FLAGS.items() if flag in flags]
    free = ["-", "--", *sorted(free for engine in ENGINES for free in engine.free_flags if shorts)]
    refused = f"{_list((*flags, *shorts))}.exists(f, f.startsWith(k))"
    # NB: a name of one letter takes its value without a blank too, as in -n2.
    letters = [short for short in shorts if len(short) == len("-n")]
    if letters:
        refused = f"({refused} || {_list(letters)}.exists(f, k.startsWith(f)))"
    rule = _every(f"!a.startsWith('-') || [{_KEY}].all(k, k in {_list(free)} || !{refused})")
    why = _WHY.get(owner) or f"set by {OWNERS[owner]}"
    return rule, f"args must not hold {_named(flags)}, under any name ({why}): remove it"


def _every(test: str) -> str:
    return f"!has(self.args) || self.args.all(a, {test})"


def _flags_of(owner: Owner) -> list[str]:
    return [flag for engine in ENGINES for flag, by in engine.owned_flags.items() if by is owner]


def _named(flags: list[str]) -> str:
    more = len(flags) - MOST_NAMED
    return ", ".join(flags[:MOST_NAMED]) + (f" and {more} more in docs/reference/api.md" if more > 0 else "")


def _list(texts: Iterable[str]) -> str:
    return "[" + ", ".join(f"'{text}'" for text in texts) + "]"
