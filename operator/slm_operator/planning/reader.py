"""What a sentence may name, by who reads it.

A condition or an event of a namespace is read by whoever may look into that namespace, and into no other. So what is in
the way is kept as data until its reader is known: pods and deployments of other namespaces are then counted and
not named, unless an administrator lets them be (`tenancy.namesOfOthers`). Nodes' own annotations, their events and the log
are for administrators and name everything.

Nothing may parse a finished sentence: reasons are made from the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from slm_operator.manifests.metadata import is_served_in
from slm_operator.partitioning.base import ANYBODY

if TYPE_CHECKING:
    from slm_operator.settings import Settings
    from slm_operator.watch.records import PodRecord


@dataclass(frozen=True, slots=True)
class Reader:
    """Whoever may look into one namespace."""

    namespace: str | None
    """None: into all of them."""

    def may_know(self, namespace: str) -> bool:
        """Whether objects of a namespace may be named."""
        return self.namespace is None or self.namespace == namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutPods:
    """A sentence with pods in it."""

    before: str = ""
    pods: tuple[PodRecord, ...]
    after: str = ""
    noun: str = "pod"


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutServed:
    """A sentence that ends with the deployment whose replicas a node's slices are for."""

    before: str
    serves: str
    """Value of the serves label."""


Sentence = str | AboutPods | AboutServed


def reader_in(namespace: str, settings: Settings) -> Reader:
    """Who reads the messages of a namespace."""
    return Reader(None if settings.tenancy.names_of_others else namespace)


def text_for(sentence: Sentence, reader: Reader) -> str:
    """The sentence in full, as this reader may see it."""
    match sentence:
        case str():
            return sentence
        case AboutPods():
            return f"{sentence.before}{_pods(sentence, reader)}{sentence.after}"
        case AboutServed():
            return f"{sentence.before}{_served(sentence.serves, reader)}"
        case _:
            assert_never(sentence)


def _pods(sentence: AboutPods, reader: Reader) -> str:
    known = [pod for pod in sentence.pods if reader.may_know(pod.meta.key.namespace)]
    listed = [f"{sentence.noun} {pod.meta.key}{', which measures a profile' if pod.measures else ''}" for pod in known]
    strangers = len(sentence.pods) - len(known)
    if strangers:
        one = f"a {sentence.noun} of another namespace"
        listed.append(one if strangers == 1 else f"{strangers} {sentence.noun}s of other namespaces")
    return ", ".join(listed)


def _served(serves: str, reader: Reader) -> str:
    if serves == ANYBODY:
        return "any deployment"
    may_know = reader.namespace is None or is_served_in(serves, reader.namespace)
    return serves if may_know else "a deployment of another namespace"
