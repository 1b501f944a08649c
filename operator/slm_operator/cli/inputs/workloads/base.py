"""What is known of an engine that somebody else runs, and where each word of its command line stands.

Exists so that the answer and the patch speak of one thing, whichever kind of object it came from. Must never hold what a
manifest does not say: defaults of clusters, charts and images are not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slm_core.engines.base import CommandLine, Engine

Raw = dict[str, Any]
Path = tuple[str | int, ...]
"""Keys and indexes from an object's root."""
HOME = ""
"""The object that was asked about, among those that a command line comes from."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a word stands: a whole text of an object, or a part of one."""

    path: Path
    of: str = HOME
    """HOME, or another object by kind and name, which nobody asked to change."""
    span: tuple[int, int] | None = None
    """First sign and the one behind the last, in a text that holds more than this word."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a command line, expanded."""

    text: str
    origin: Origin | None
    """None: of an image, or of whoever makes the pod."""
    unknown: str | None = None
    """Why its text is not known, where a whole list of words may stand in its place."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a container."""

    value: str | None
    """None: it comes from elsewhere."""
    origin: Origin
    source: str = ""
    """Where it comes from: a Secret, a ConfigMap."""
    as_written: bool = True
    """Whether it stands so at its origin. Otherwise it is made of other variables, and its words have no place there."""


class EndOf(StrEnum):
    """What further arguments are added to."""

    LIST = "List"
    NEW_LIST = "NewList"
    TEXT = "Text"
    NEW_VARIABLE = "NewVariable"


@dataclass(frozen=True, slots=True)
class End:
    """Where further arguments go."""

    path: Path
    """Of the list or the text; of a variable that is not there yet, that of the container."""
    what: EndOf
    offset: int = 0
    """In a text."""
    of: str = HOME
    """Whose it is."""
    variable: str = ""
    """The name of a variable that is not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as its pod gets it, with the objects that it was put together from."""

    name: str
    image: str | None
    command: tuple[Word, ...]
    """Empty: the image's own."""
    args: tuple[Word, ...]
    env: Mapping[str, Variable]
    given_env: tuple[Raw, ...] = ()
    """The same as it is written."""
    resources: Raw = field(default_factory=dict)
    mounts: tuple[Raw, ...] = ()
    end: End
    """Where arguments go that are not part of a shell's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What the containers of a workload share, and what its object says of the model."""

    containers: tuple[Container, ...]
    node_selector: Mapping[str, str]
    tolerations: tuple[Raw, ...] = ()
    volumes: tuple[Raw, ...] = ()
    model_uri: str | None = None
    """Where the object says that the model is, in the words of `spec.model.uri`. None: its arguments say it."""
    fetched_to: str | None = None
    """Folder into which somebody else puts the model, so that this path says nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The object that was asked about."""

    api_version: str
    kind: str
    name: str
    namespace: str | None

    def __str__(self) -> str:
        """`Deployment team/chat`."""
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEngine:
    """One engine of one workload."""

    subject: Subject
    container: Container
    pod: Pod
    engine: Engine
    command: tuple[str, ...]
    """What starts it, without its arguments."""
    arguments: tuple[Word, ...]
    line: CommandLine
    """What they say."""
    end: End
    """Where further arguments go."""

    @property
    def version(self) -> str:
        """Of the engine, as far as the image's name tells."""
        return self.engine.version_of_image(self.container.image or "")

    @property
    def gpus(self) -> Mapping[str, int]:
        """The GPUs, or parts of them, that it asks for, by resource."""
        found: dict[str, int] = {}
        for kind in ("requests", "limits"):
            given = self.container.resources.get(kind)
            for name, count in (given if isinstance(given, dict) else {}).items():
                if str(name).startswith(GPU_RESOURCES) and str(count).isdigit():
                    found[str(name)] = int(count)
        return found

    @property
    def gpu_product(self) -> str | None:
        """The kind of GPU that its nodes must have. None: any."""
        return self.pod.node_selector.get(PRODUCT_LABEL)


GPU_RESOURCES = ("nvidia.com/gpu", "nvidia.com/mig-")
WHOLE = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"
