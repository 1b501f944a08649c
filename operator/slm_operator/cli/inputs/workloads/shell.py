"""A shell's text as the simple commands in it, each word with its place: `sh -c "exec vllm serve $MODEL --port 8000"`.

Exists so that a flag in such a text can be read, and changed where it stands. Knows quotes, variables, comments, line
continuations, lists of commands and redirections. Must never guess what a substitution prints: such a word is unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slm_operator.cli.inputs.workloads.base import Origin, Variable, Word

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh"})
BEFORE_A_COMMAND = frozenset({
    "exec", "then", "else", "elif", "do", "if", "while", "until", "!", "{", "(", "time", "nohup", "command", "env",
})  # fmt: skip
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_VARIABLE = re.compile(
    r"\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?::?-(?P<default>[^}]*))?\}|\((?P<kube>[A-Za-z_][\w.-]*)\))"
)
_SET = re.compile(
    r"(?:^|[\s;&|({])(?P<assigned>[A-Za-z_]\w*)\+?="
    r"|(?:^|[\s;&|({])(?:for|unset|read(?:\s+-\w+)*)\s+(?P<named>[A-Za-z_]\w*)"
)
"""Commands that give a variable another value."""
_POSITIONAL = re.compile(r"""(?:"\$@"|\$@|\$\*)(?=[\s;&|)]|$)""")
_REDIRECTION = re.compile(r"\d*(?:>>|>&|<&|>|<)&?(?:\d+\b|-)?")
_END = re.compile(r"&&|\|\||;;?|\||&|\n|\(|\)")


@dataclass(frozen=True, slots=True)
class Command:
    """One simple command."""

    words: tuple[Word, ...]
    end: int
    """Behind its last word in the text."""
    passes_on: bool
    """Whether what follows the text is among its words."""


@dataclass(slots=True)
class _Read:
    """The text and what has been read of it."""

    text: str
    origin: Origin
    variables: Mapping[str, Variable]
    positional: Sequence[Word]
    set_here: frozenset[str] = frozenset()
    """Variables that the text itself sets: what they say then is not known."""
    at: int = 0
    end: int = 0
    passes_on: bool = False
    words: list[Word] = field(default_factory=list)
    found: list[Command] = field(default_factory=list)


def commands_in(word: Word, variables: Mapping[str, Variable], positional: Sequence[Word]) -> list[Command]:
    """The simple commands of a text that is one word of a container. `positional`: what `$@` stands for."""
    assert word.origin is not None
    set_here = frozenset(found["assigned"] or found["named"] for found in _SET.finditer(word.text))
    read = _Read(word.text, word.origin, variables, positional, set_here)
    while read.at < len(read.text):
        _step(read)
    _ended(read)
    return read.found


def _step(read: _Read) -> None:
    text, at = read.text, read.at
    if text[at] in " \t\r" or text.startswith("\\\n", at):
        read.at += 2 if text[at] == "\\" else 1
    elif text[at] == "#":
        read.at = end if (end := text.find("\n", at)) >= 0 else len(text)
    elif found := _REDIRECTION.match(text, at):
        read.at = found.end()
        if not found[0][-1].isdigit() and not found[0].endswith("-"):
            _skip_target(read)
    elif found := _END.match(text, at):
        read.at = found.end()
        _ended(read)
    else:
        _word(read)


def _skip_target(read: _Read) -> None:
    while read.at < len(read.text) and read.text[read.at] in " \t":
        read.at += 1
    if read.at < len(read.text) and not _END.match(read.text, read.at):
        kept = len(read.words)
        _word(read)
        del read.words[kept:]


def _ended(read: _Read) -> None:
    words = read.words
    while words and (words[0].text in BEFORE_A_COMMAND or _ASSIGNMENT.match(words[0].text)):
        words = words[1:]
    if words:
        read.found.append(Command(tuple(words), read.end, read.passes_on))
    read.words, read.passes_on = [], False


def _word(read: _Read) -> None:
    """One word, or the words that a variable alone stands for."""
    start, text = read.at, read.text
    if alone := _POSITIONAL.match(text, start):
        read.at = read.end = alone.end()
        read.words += read.positional
        read.passes_on = True
        return
    found = _VARIABLE.match(text, start)
    if found and (found.end() == len(text) or text[found.end()] in " \t\r\n;&|)"):
        read.at = read.end = found.end()
        read.words += _split(read, found, start)
        return
    pieces, unknown = _pieces(read)
    read.end = read.at
    origin = Origin(read.origin.path, read.origin.of, (start, read.at))
    read.words.append(Word("".join(pieces), origin, unknown))


def _pieces(read: _Read) -> tuple[list[str], str | None]:
    """The parts of one word, up to a blank or the command's end outside of quotes, and why they are not known."""
    text, quote, unknown = read.text, "", None
    pieces: list[str] = []
    while read.at < len(text):
        sign = text[read.at]
        if quote == "" and (sign in " \t\r\n" or _END.match(text, read.at) or sign in "<>"):
            break
        if sign == quote or (quote == "" and sign in "'\""):
            quote = "" if quote else sign
            read.at += 1
        elif sign == "\\" and quote != "'" and read.at + 1 < len(text):
            following = text[read.at + 1]
            pieces.append(
                "" if following == "\n" else following if quote == "" or following in '"\\$`' else sign + following
            )
            read.at += 2
        elif sign == "$" and quote != "'" and (found := _VARIABLE.match(text, read.at)):
            value = _value(read, found)
            pieces.append(found[0] if value is None else value)
            unknown = unknown or _set_here(read, found)
            read.at = found.end()
        else:
            if sign == "`" or (sign == "$" and quote != "'"):
                unknown = "a shell's substitution stands in it"
            pieces.append(sign)
            read.at += 1
    return pieces, "a quote in it has no end" if quote else unknown


def _set_here(read: _Read, found: re.Match[str]) -> str | None:
    """Why a shell's variable is not known though its container sets it. NB: `$(NAME)` is Kubernetes', and comes before."""
    name = found["bare"] or found["braced"]
    return f"{found[0]}, which the shell's text itself sets" if name in read.set_here else None


def _value(read: _Read, found: re.Match[str]) -> str | None:
    """What a variable says; None: not known."""
    name = found["bare"] or found["braced"] or found["kube"]
    if _set_here(read, found):
        return None
    variable = read.variables.get(name)
    return found["default"] if variable is None else variable.value


def _split(read: _Read, found: re.Match[str], start: int) -> list[Word]:
    """The words of a variable that stands alone and without quotes."""
    name = found["bare"] or found["braced"] or found["kube"]
    variable, value = read.variables.get(name), _value(read, found)
    place = Origin(read.origin.path, read.origin.of, (start, found.end()))
    if value is None:
        whence = f"comes from {variable.source}" if variable else "its container does not set"
        return [Word(found[0], place, _set_here(read, found) or f"{found[0]}, which {whence}")]
    if variable is None:
        return [Word(one, place) for one in value.split()]
    of = variable.origin
    return [
        Word(one[0], Origin(of.path, of.of, one.span()) if variable.as_written else None)
        for one in re.finditer(r"\S+", value)
    ]
