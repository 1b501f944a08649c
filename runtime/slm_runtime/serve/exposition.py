"""One page of metrics for a whole pack: what every engine shows with its index, and what the supervisor knows of it. Pure.

Prometheus' text format, version 0.0.4. A family has its HELP and TYPE once, and the samples of all engines below them, as
the format wants it. The label is `engine`: an engine of ours is one process and calls itself engine 0 (vLLM numbers its own
parallel processes so), which says nothing in a pack, and two labels of one name would make the page unreadable. So the
page looks like that of one server with R engines. What another number says is kept as `exported_engine`, as Prometheus
itself would have it. Must never pass on a line that is no sample, nor fail by one.

NB: sums over the label fall when an engine starts again. Prometheus' rate() takes each series for itself, and is right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LABEL = "engine"
ALONE = "0"
"""What an engine of one process calls itself."""
_HEAD = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) ")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?( +[-+.0-9a-zA-Z]+(?: +-?\d+)?)\s*")
_OWN = re.compile(rf'"(?:[^"\\]|\\.)*"|\b{LABEL}="((?:[^"\\]|\\.)*)",?')
"""A value, which is skipped whole whatever it holds, or the label that an engine has for itself."""
_PARTS = ("_bucket", "_sum", "_count", "_total", "_created")
"""Endings of samples that belong to a family of a shorter name."""


@dataclass(slots=True)
class _Family:
    heads: dict[str, str] = field(default_factory=dict)
    """HELP and TYPE, by these words."""
    samples: list[str] = field(default_factory=list)

    def text(self) -> str:
        return "".join(f"{line}\n" for line in (*self.heads.values(), *self.samples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A family of the supervisor's own."""

    name: str
    kind: str
    means: str
    samples: tuple[tuple[Mapping[str, str], float], ...]
    """Labels and value of each."""

    def text(self) -> str:
        """As lines."""
        heads = [f"# HELP {self.name} {self.means}", f"# TYPE {self.name} {self.kind}"]
        return "".join(f"{line}\n" for line in (*heads, *(self._line(*sample) for sample in self.samples)))

    def _line(self, labels: Mapping[str, str], value: float) -> str:
        inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
        return f"{self.name}{{{inside}}} {_number(value)}" if inside else f"{self.name} {_number(value)}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else str(value)


def merged(pages: Mapping[int, str]) -> Iterator[str]:
    """The pages of engines, by index, as one: a family at a time, in the order in which they are first seen."""
    families: dict[str, _Family] = {}
    for index, page in sorted(pages.items()):
        _add(families, index, page.split("\n"))  # NB: a label may hold what else ends lines
    for family in families.values():
        if family.samples:
            yield family.text()


def _add(families: dict[str, _Family], index: int, lines: Iterable[str]) -> None:
    now = ""
    for line in lines:
        if head := _HEAD.match(line):
            now = head[2]
            families.setdefault(now, _Family()).heads.setdefault(head[1], line)
        elif sample := _SAMPLE.fullmatch(line):
            name, labels, value = sample.groups()
            whose = now if name == now or name.removeprefix(now) in _PARTS else name
            families.setdefault(whose, _Family()).samples.append(f"{name}{{{labelled(labels or '', index)}}}{value}")


def labelled(labels: str, index: int) -> str:
    r"""The labels of a sample, with the engine's index first.

    >>> labelled('engine="0",model="a,engine=\\"7\\""', 2)
    'engine="2",model="a,engine=\\"7\\""'
    """
    others = _OWN.sub(_renamed, labels).strip(", ")
    return ",".join(filter(None, (f'{LABEL}="{index}"', others)))


def _renamed(found: re.Match[str]) -> str:
    """What stands in the place of a value (itself), or of an engine's own label."""
    if found[1] is None:
        return found[0]
    return "" if found[1] == ALONE else f"exported_{found[0]}"
