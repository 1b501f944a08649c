"""The one engine among the containers of a pod, by the command lines that start them.

Knows how Kubernetes and a shell put a command line together: command and args, `$(VAR)`, `sh -c`. What starts an engine and
what its words mean is asked of the engine's port. Pure. Raises Refused, with a sentence that names the object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slm_core.engines.registry import ENGINES, other_engine

from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.base import (
    HOME,
    Container,
    End,
    EndOf,
    Origin,
    Raw,
    RunningEngine,
    Variable,
    Word,
)
from slm_operator.cli.inputs.workloads.shell import SHELLS, commands_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slm_core.engines.base import Engine

    from slm_operator.cli.inputs.workloads.base import Path, Pod, Subject
    from slm_operator.cli.inputs.workloads.shell import Command

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][\w.-]*)\)")
MOST_LETTERS = 100_000
"""Of variables in one text: no command line is longer (a kernel takes 128 KiB a word)."""


@dataclass(frozen=True, slots=True)
class _Started:
    container: Container
    engine: Engine
    command: tuple[str, ...]
    arguments: tuple[Word, ...]
    end: End


def the_engine(subject: Subject, pod: Pod) -> RunningEngine:
    """The engine that a pod runs. Raises Refused where it runs none, two, another one, or one with flags that contradict each other."""
    started = [one for container in pod.containers for one in _started(container)]
    if len(started) > 1:
        names = " and ".join(one.container.name for one in started)
        raise Refused(
            f"{subject}: it runs {len(started)} engines, in {names}: there is advice for workloads with one engine a pod"
        )
    if not started:
        raise Refused(f"{subject}: {_why_none(pod.containers)}")
    (one,) = started
    where = f"{subject}, container {one.container.name}"
    if unknown := next((word for word in one.arguments[1:] if word.unknown), None):
        raise Refused(
            f"{where}: what it is started with is not known: {unknown.unknown}: write those arguments into the workload"
        )
    texts = [word.text for word in one.arguments]
    line = one.engine.read_command_line(
        texts, [word.origin.of if word.origin else "its maker" for word in one.arguments]
    )
    if line.problems:
        raise Refused("\n".join(f"{where}: {problem}" for problem in line.problems))
    return RunningEngine(
        subject=subject, container=one.container, pod=pod, engine=one.engine, command=one.command,
        arguments=one.arguments, line=line, end=one.end,
    )  # fmt: skip


def _why_none(containers: Sequence[Container]) -> str:
    known = ", ".join(engine.name for engine in ENGINES)
    for one in containers:
        words = [one.image or "", *(word.text for word in (*one.command, *one.args))]
        if other := other_engine(words):
            return f"container {one.name} runs {other}, and there is advice for {known} only"
    names = ", ".join(one.name for one in containers) or "none"
    return f"no engine is started in its containers ({names}): there is advice for a container that starts {known} in its command, arguments or image"


def _started(container: Container) -> list[_Started]:
    given = (*container.command, *container.args)
    # NB: not expanded, for the places of its words would move: the shell's reader does it.
    if script := _script(given):
        at, text, origin = script
        lines = commands_in(text, container.env, [_expanded(word, container.env) for word in given[at + 2 :]])
        return [one for line in lines for one in _by(container, line.words, _end(container, origin, line))]
    words = tuple(_expanded(word, container.env) for word in given)
    if not container.command:
        found = next((e for e in ENGINES if e.is_in_image(container.image or "")), None)
        # NB: some images have no entry point: then args bring the whole command.
        if found is not None and _at(found, words) is None:
            return [_Started(container, found, found.command, words, container.end)]
    return _by(container, words, container.end)


def _end(container: Container, text: Origin, line: Command) -> End:
    """In the text; where that is another object's, in the arguments that it passes on."""
    if text.of != HOME and line.passes_on:
        return container.end
    return End(text.path, EndOf.TEXT, line.end, of=text.of)


def _by(container: Container, words: Sequence[Word], end: End) -> list[_Started]:
    """What a command line starts."""
    texts = [word.text for word in words]
    for engine in ENGINES:
        at = engine.arguments_at(texts)
        if at is not None:
            return [_Started(container, engine, tuple(texts[:at]), tuple(words[at:]), end)]
    return []


def _at(engine: Engine, words: Sequence[Word]) -> int | None:
    return engine.arguments_at([word.text for word in words])


def _script(words: Sequence[Word]) -> tuple[int, Word, Origin] | None:
    """The text that a shell is given with -c, its index and its place."""
    for at, word in enumerate(words[:-1]):
        is_option = re.fullmatch(r"-[a-z]*c[a-z]*", word.text) is not None
        if (
            is_option
            and any(one.text.rpartition("/")[2] in SHELLS for one in words[:at])
            and (place := words[at + 1].origin)
        ):
            return at + 1, words[at + 1], place
    return None


def _expanded(word: Word, env: Mapping[str, Variable]) -> Word:
    return replace(word, text=_with_values(word.text, env))


def _with_values(text: str, env: Mapping[str, Variable]) -> str:
    """As Kubernetes does it: `$$` is a `$`, and what is not set, or not known here, stays as it is written.

    NB: variables of variables grow without end (ten times ten times ten), so what is too long stays as it is, too.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return "$"
        variable = env.get(found[1])
        return found[0] if variable is None or variable.value is None else variable.value

    letters = sum(len(value(found)) for found in _REFERENCE.finditer(text))
    return _REFERENCE.sub(value, text) if letters <= MOST_LETTERS else text


# What a manifest's containers are made of.


def words_at(raw: Any, path: Path, of: str = HOME) -> tuple[Word, ...]:
    """The words of a list."""
    items = raw if isinstance(raw, list) else []
    return tuple(Word(str(item), Origin((*path, at), of)) for at, item in enumerate(items))


def variables_at(raw: Any, path: Path, of: str = HOME) -> dict[str, Variable]:
    """The variables of a container's list, the last of a name. One may refer to those before it."""
    found: dict[str, Variable] = {}
    for at, one in enumerate(raw if isinstance(raw, list) else []):
        if isinstance(one, dict) and isinstance(one.get("name"), str):
            value = one.get("value")
            whence = "" if "valueFrom" not in one else _source(one["valueFrom"])
            written = str("" if value is None else value)
            text = _with_values(written, found)
            place = Origin((*path, at, "value"), of)
            found[one["name"]] = Variable(None if whence else text, place, whence, as_written=text == written)
    return found


def _source(raw: Any) -> str:
    if isinstance(raw, dict):
        for key, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
            if isinstance(raw.get(key), dict):
                return f"{kind} {raw[key].get('name')}"
    return "elsewhere"


def objects(raw: Any) -> tuple[Raw, ...]:
    """The objects of a list."""
    return tuple(one for one in raw if isinstance(one, dict)) if isinstance(raw, list) else ()


def container_at(raw: Raw, path: Path) -> Container:
    """A container as it is written in the object that was asked about."""
    args, command = raw.get("args"), raw.get("command")
    if isinstance(args, list) or not command:
        end = End((*path, "args"), EndOf.LIST if isinstance(args, list) else EndOf.NEW_LIST)
    else:
        end = End((*path, "command"), EndOf.LIST)
    return Container(
        name=str(raw.get("name") or "?"),
        image=raw.get("image") if isinstance(raw.get("image"), str) else None,
        command=words_at(command, (*path, "command")),
        args=words_at(args, (*path, "args")),
        env=variables_at(raw.get("env"), (*path, "env")),
        given_env=objects(raw.get("env")),
        resources=part(raw, "resources"),
        mounts=objects(raw.get("volumeMounts")),
        end=end,
    )


def containers_at(raw: Raw, path: Path) -> Iterable[Container]:
    """The containers of a pod's spec."""
    listed = raw.get("containers")
    for at, one in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(one, dict):
            yield container_at(one, (*path, "containers", at))


def part(raw: Any, *path: str) -> Raw:
    """An object inside; empty where it is not there."""
    for name in path:
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw if isinstance(raw, dict) else {}
