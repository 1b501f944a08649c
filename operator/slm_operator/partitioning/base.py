"""The port of partitionings: who divides a GPU, and what follows for pods and nodes.

Planning, manifests and checks ask a partitioning what a pod requests, which nodes can give it, and whether a node must
be set up first. Pure: nouns and answers, read from labels and counts. Must never know a record, a cache or an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slm_core.measurements import SharingMode
from slm_core.sharing import by_word, sharing_of

from slm_operator.api import names
from slm_operator.partitioning import discovery

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceClass:
    """(mode, R), and by whom: how a GPU is divided. One engine a GPU is (Exclusive, 1), an unshared node."""

    mode: SharingMode
    engines_per_gpu: int
    in_one_pod: bool = False
    """Whether one pod has the whole GPU, on any node, and runs all of its engines: one of them too."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the class of a GPU that nobody shares."""
        return not sharing_of(self.mode).allows_packs

    @property
    def label(self) -> str:
        """Value of the slice-class label: mps-4, time-slicing-2, exclusive."""
        word = sharing_of(self.mode).word
        return word if self.is_whole else f"{word}-{self.engines_per_gpu}"


AUTO = "Auto"
"""Of spec.sharing.partitioning: any."""
ANYBODY = "any"
"""Value of the serves label on nodes whose shares are for whoever wants such."""
UNSHARED = SliceClass(mode=SharingMode.EXCLUSIVE, engines_per_gpu=1)


def class_of_label(label: str | None) -> SliceClass | None:
    """The class of shares that a value of the class label names; None for anything that we do not write."""
    word, _, replicas = (label or "").rpartition("-")
    sharing = by_word(word)
    if sharing is None or not sharing.allows_packs or word != sharing.word or discovery.number(replicas) < 1:
        return None
    return SliceClass(mode=sharing.mode, engines_per_gpu=int(replicas))


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitioning:
    """One way of dividing GPUs among pods."""

    name: str
    """Its word in the API, where that has one."""
    resource: str
    """The extended resource of which a pod requests one."""
    changes_nodes: bool
    """Whether a node must be set up for it first, and is given back in the end."""
    needs_opt_in: bool = True
    """Whether only nodes that an administrator opted in may be used."""
    is_placed: bool = True
    """Whether the plan of the fleet finds its nodes. Else the scheduler does, by what the pods ask for."""
    runs_packs: bool = False
    """Whether one pod runs all engines of a GPU."""
    mounts_shared_memory: frozenset[SharingMode] = frozenset()
    """Modes in which whatever gives the share mounts a /dev/shm into the container, which a volume of ours would hide."""

    def engines_per_pod(self, slice_class: SliceClass) -> int:
        """Engines that one pod runs."""
        return slice_class.engines_per_gpu if self.runs_packs else 1

    def pods_for(self, engines: int, slice_class: SliceClass) -> int:
        """Pods that run so many engines. NB: rounded up, because a pack is whole: nothing else was measured."""
        return -(-engines // self.engines_per_pod(slice_class))

    def node_labels(self, slice_class: SliceClass, serves: str) -> dict[str, str]:
        """Labels of a node that can give such a share to the pods that `serves` admits: it gets them once it is set up."""
        return {names.CLASS_LABEL: slice_class.label, names.SERVES_LABEL: serves} if self.changes_nodes else {}


def nodes_allowed(selector: Mapping[str, str], product: str | None, opt_in_label: str | None) -> dict[str, str]:
    """Labels of the nodes that a user allows, of those that opted in: of all where no such label is given."""
    allowed = dict(selector) | ({} if opt_in_label is None else {opt_in_label: "true"})
    return allowed if product is None else allowed | {discovery.PRODUCT_LABEL: product}
