"""YAML as kubectl reads it, so that a manifest is judged by the values that are sent, and is written as it is read.

PyYAML follows YAML 1.1 to the letter: to it `1e3` is text, `1:30` is 90 and `2024-01-01` a date. kubectl's reader
(sigs.k8s.io/yaml, a fork of go-yaml 2) has numbers as JSON has them, octal ones too, and no dates.
Must never construct what JSON does not have: SafeLoader, its base, makes sets of `!!set` and bytes of `!!binary`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from slm_operator.yaml_decoding import BoundedLoader

if TYPE_CHECKING:
    from collections.abc import Callable

_SCALARS: tuple[tuple[str, str, str], ...] = (
    # Tag, first signs, whole text. The first that fits counts.
    ("bool", "yYnNtTfFoO", r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
    ("null", "~nN\0", r"~|null|Null|NULL|"),
    ("int", "-+0123456789", r"[-+]?(0|[1-9][0-9_]*|0[0-7_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+|0[bB][01_]+)"),
    ("float", "-+.0123456789", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    ("float", "-+.", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    ("merge", "<", r"<<"),
)
_NO_JSON = (":set", ":binary", ":omap", ":pairs")
_TRUE = {"y", "yes", "true", "on"}


class Loader(BoundedLoader):
    """NB: not of CSafeLoader: nested deeply enough that ends the process with a segmentation fault."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the base class's own, empty here
    yaml_constructors = {  # noqa: RUF012 - and its own without some
        tag: made for tag, made in yaml.SafeLoader.yaml_constructors.items() if not str(tag).endswith(_NO_JSON)
    }


class Dumper(yaml.SafeDumper):
    """Quotes each text that one of the two readers would take for something else: the revision 12e4, say."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class's own, to which the scalars below are added
        first: list(found) for first, found in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


def _text_of(construct: Callable[[str], Any]) -> Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]:
    return lambda loader, node: construct(loader.construct_scalar(node))


def _int(text: str) -> int:
    plain = text.replace("_", "")
    return int(plain, 8) if re.fullmatch(r"[-+]?0[0-7]+", plain) else int(plain, 0)


def _float(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _first, _whole in _SCALARS:
    _starts = ["" if sign == "\0" else sign for sign in _first]
    for _one in (Loader, Dumper):
        _one.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_whole})\Z"), _starts)
Loader.add_constructor("tag:yaml.org,2002:bool", _text_of(lambda text: text.lower() in _TRUE))
Loader.add_constructor("tag:yaml.org,2002:int", _text_of(_int))
Loader.add_constructor("tag:yaml.org,2002:float", _text_of(lambda text: _float(text.lower())))
Loader.add_constructor("tag:yaml.org,2002:timestamp", _text_of(str))
