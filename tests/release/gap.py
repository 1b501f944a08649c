"""Who follows the page of the air gap, on which node, from which mirror; and what they see there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hack.release.artefacts import IMAGES
from tests.docs.pages import ROOT
from tests.docs.walkthrough import AIR_GAP, commands, filled
from tests.e2e.serving import until
from tests.testbed.stage import OPERATOR_NAMESPACE

from .loopback import USER
from .place import VERSION

if TYPE_CHECKING:
    from tests.testbed.stage import Stage

    from .closed_node import ClosedNode
    from .place import Place
    from .reader import Reader

PAGE = ROOT / AIR_GAP[0].page
TEAM = "team"
HUB = "docker.io"
NO_PULL = {"ErrImagePull", "ImagePullBackOff"}


@dataclass(frozen=True, slots=True)
class Gap:
    """What the story is about."""

    place: Place
    stage: Stage
    node: ClosedNode
    reader: Reader

    @property
    def mirror(self) -> str:
        return f"localhost:{self.node.mirror.port}"

    @property
    def hub(self) -> str:
        """The host of the registry that plays Docker Hub."""
        return self.place.registry.partition("/")[0]

    def follow(self, step: str) -> str:
        """Type what the page says there."""
        (text,) = (text for found, text in commands(lambda _: PAGE.read_text(), AIR_GAP).items() if found.name == step)
        words = {"REGISTRY": self.place.registry, "MIRROR": self.mirror, "VERSION": VERSION, "USER": USER}
        return self.reader.follow(filled(text, words).replace(HUB, self.hub))

    def images(self) -> list[str]:
        """What images.txt names, as the reader has it."""
        return (self.reader.folder / IMAGES).read_text().split()

    def mirrored(self) -> dict[str, str]:
        """The same, each with its name in the mirror."""
        ours, others = f"{self.place.registry}/", f"{self.hub}/"
        return {image: f"{self.mirror}/{image.removeprefix(ours).removeprefix(others)}" for image in self.images()}

    def in_operator(self, code: str, *words: str) -> str:
        """What a program prints in a pod of the operator's."""
        where = ("exec", "--namespace", OPERATOR_NAMESPACE, "deployment/slm-operator", "--", "python", "-c", code)
        return self.stage.cluster.kubectl(*where, *words).strip()

    def pods(self, namespace: str, label: str) -> list[dict[str, Any]]:
        listed = self.stage.cluster.kubectl("get", "pods", "-n", namespace, "-l", label, "--output", "json")
        found: list[dict[str, Any]] = json.loads(listed)["items"]
        return found

    def apply(self, manifest: dict[str, Any]) -> None:
        self.stage.cluster.kubectl("apply", "--namespace", TEAM, "--filename", "-", stdin=json.dumps(manifest))

    def refusal(self, name: str) -> dict[str, str]:
        """Messages of the deployment and of its profile, by kind, once both say that an image does not come."""
        said: dict[str, str] = {}

        def both_say_so() -> bool:
            profile = (self.stage.get("slmd", name, TEAM).get("status") or {}).get("profile") or {}
            seen = {"slmd": name} | ({"slmp": profile["name"]} if profile.get("name") else {})
            said.clear()
            said.update({kind: message for kind, one in seen.items() if (message := self.no_pull(kind, one))})
            return said.keys() == {"slmd", "slmp"}

        until(both_say_so, timeout_s=300)
        return said

    def no_pull(self, kind: str, name: str) -> str:
        """What the condition says that names an image which does not come; empty where none does."""
        conditions = (self.stage.get(kind, name, TEAM).get("status") or {}).get("conditions", [])
        return next((each["message"] for each in conditions if each["reason"] in NO_PULL), "")
