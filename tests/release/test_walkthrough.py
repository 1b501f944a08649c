"""The pages, followed: every command that a new user types, as it stands there, on kind and from what was released.

The reader has kubectl, helm and uv, a cluster with a GPU node, and two files of their own, as the pages ask for: values of the
chart, and a manifest, here of a model and an engine that this machine can run. tests/docs/walkthrough.py has the steps.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hack.release.artefacts import IMAGE
from tests.docs.walkthrough import FIRST_ANSWER, Step, commands, filled
from tests.e2e.conftest import node_marks
from tests.e2e.light import light
from tests.e2e.serving import until
from tests.standin.deployment import CONFIGS
from tests.standin.deployment import NAMESPACE as PLUGIN_NAMESPACE
from tests.testbed.engine_cpu import uv
from tests.testbed.gotools import binary

from .place import NEXT, ROOT, VERSION, running_image
from .reader import reader_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.testbed.stage import Stage

    from .place import Place
    from .reader import Reader

pytestmark = [pytest.mark.kind, pytest.mark.record, pytest.mark.timeout(5400)]
NAME = "qwen3-0-6b"
VALUES = {
    "config": {"devicePlugin": {"namespace": PLUGIN_NAMESPACE, "configMap": CONFIGS}, "profiling": {"device": "Cpu"}}
}


@pytest.fixture
def reader(stage: Stage, tmp_path: Path) -> Reader:
    return reader_in(tmp_path, stage.cluster.kubeconfig, kubectl=binary("kubectl"), helm=binary("helm"), uv=uv())


@dataclass(slots=True)
class Brought:
    """What must be so after a step, beyond that all of its commands ended well. Each is given what was printed."""

    place: Place
    stage: Stage
    folder: Path
    marks: dict[str, dict[str, str]]
    """Of the node, before the first step."""
    engines: list[str] = field(default_factory=list)
    """Pods that served before the upgrade."""

    def after(self, step: str, said: str) -> None:
        """Look, where there is something to look at."""
        looks: dict[str, Callable[[str], None]] = {
            "install": lambda _: self._runs(VERSION),
            "example": self._example,
            "explain": self._explained,
            "ask": self._answered,
            "report": self._reported,
            "scale": self._scaled,
            "upgrade": self._upgraded,
            "remove": self._given_back,
            "remove-all": self._gone,
        }
        if step in looks:
            looks[step](said)

    def _runs(self, version: str) -> None:
        digest = self.place.tags(version)[IMAGE.name]
        assert running_image(self.stage.cluster) == f"{self.place.registry}/{IMAGE.repository}@{digest}"

    def _example(self, _: str) -> None:
        assert (self.folder / "chat.yaml").read_text() == (ROOT / "examples/chat.yaml").read_text()

    def _explained(self, said: str) -> None:
        assert "Serve 2 engines per GPU" in said

    def _answered(self, said: str) -> None:
        assert json.loads(said)["choices"][0]["message"]["content"]

    def _reported(self, _: str) -> None:
        assert "2 engines" in (self.folder / "report.html").read_text()

    def _scaled(self, _: str) -> None:
        until(lambda: len(self._pods()) == 1, timeout_s=120)
        self.engines = self._pods()

    def _upgraded(self, _: str) -> None:
        self._runs(NEXT)
        assert self._pods() == self.engines, "no engine restarts"

    def _pods(self) -> list[str]:
        which = "--selector=app.kubernetes.io/name=slm-engine"
        return self.stage.cluster.kubectl("get", "pods", which, "--output=name").split()

    def _given_back(self, _: str) -> None:
        marks = node_marks(self.stage)
        del marks["labels"]["slm-operator.io/managed"]  # the reader's own
        assert marks == self.marks

    def _gone(self, _: str) -> None:
        kubectl = self.stage.cluster.kubectl
        assert "slm-operator.io" not in kubectl("get", "crd", "--output=name")
        assert "slm-system" not in kubectl("get", "namespaces", "--output=name")


def test_the_pages_lead_from_nothing_to_an_answer_and_back(
    place: Place, stage: Stage, reader: Reader, figures: dict[str, object]
) -> None:
    for version in (VERSION, NEXT):
        place.release(version)
    stage.provide_model("default")
    brought = Brought(place, stage, reader.folder, node_marks(stage))
    own_files = {"install": ("values.yaml", VALUES), "apply": ("chat.yaml", manifest())}
    replaced = {
        "REGISTRY": place.registry,
        "RELEASES": place.releases,
        "VERSION": VERSION,
        "NEWER": NEXT,
        "GPU-NODE": stage.cluster.node,
    }
    seconds: dict[str, int] = {}
    for step, text in commands(lambda page: (ROOT / page).read_text()).items():
        if step.name in own_files:
            name, content = own_files[step.name]
            (reader.folder / name).write_text(yaml.safe_dump(content))
        began = time.monotonic()
        said = reader.follow(filled(text, replaced), folder_of(step, place, reader))
        seconds[step.name] = round(time.monotonic() - began)
        brought.after(step.name, said)
    figures["walkthroughSeconds"] = seconds


def folder_of(step: Step, place: Place, reader: Reader) -> Path:
    """One page is for whoever has a clone."""
    return place.clone if step.page == FIRST_ANSWER else reader.folder


def manifest() -> dict[str, Any]:
    """What the reader makes of the example, under its name: a model of this node, and an engine that takes seconds."""
    return light(NAME, slo={"itl": {"maxFactor": 4}})
