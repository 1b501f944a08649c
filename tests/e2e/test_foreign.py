"""A recorded run: advice for the real engine in a Deployment that is not ours, from its profile to an exhaustive sweep of it.

    make record foreign

The Deployment is started badly and measured; the operator measures a profile that `kubectl slm advise` wrote; the patch that it
advises is applied by kubectl, and the same load is put on what comes of it. Then every batch of a grid is, in the same Deployment.
All that was counted is kept, so that what is expected can be held against it without an engine.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.foreign import EXPECTED_WITHIN, REACHES, Story, expectations, ratio, steps

from .foreign import (
    ITL_FACTOR,
    LOAD,
    MANIFESTS,
    NAME,
    NAMESPACE,
    QUESTION,
    bring_client,
    kubectl,
    loaded,
    manifest,
    scale,
    slm,
    wait_until_rolled_out,
)
from .load import POD, place_client
from .serving import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.testbed.stage import Stage

pytestmark = [pytest.mark.kind, pytest.mark.vllm, pytest.mark.record, pytest.mark.timeout(3600)]

BAD = 2
GRID = (1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128)
FEW = (1, 4, 16)
PARTS = (0.3, 0.5, 0.7, 1.0)
"""Of a batch."""


@pytest.fixture(scope="module")
def place(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A namespace with the model, and the client of its load: a folder for what is written on the way."""
    folder = tmp_path_factory.mktemp("foreign")
    stage.cluster.kubectl("create", "namespace", NAMESPACE)
    stage.provide_model(NAMESPACE)
    place_client(stage)
    bring_client(stage, folder)
    yield folder
    stage.cluster.kubectl("delete", "namespace", POD, NAMESPACE, timeout_s=300)


@pytest.fixture(scope="module")
def kept(stage: Stage, place: Path) -> dict[str, Any]:
    """All of it, in order. NB: one engine at a time has the machine, or it measures its neighbour."""
    stage.apply(manifest(BAD))
    wait_until_rolled_out(stage)
    bad = loaded(stage, BAD, [BAD])
    scale(stage, 0)
    advised = measure(stage)
    scale(stage, 1)
    exported = slm(stage, "profile", "export", profile_name(stage))
    (place / "profile.yaml").write_text(exported)
    decisions = {kind: decision(stage, str(place / "profile.yaml"), file) for kind, file in MANIFESTS.items()}
    batch = apply_patch(stage, place / "patch.json")
    patched = loaded(stage, batch, loads(batch))
    other = max(size for size in GRID if size <= batch / 2)
    sweep = [swept(stage, size, loads(size) if size == other else [size]) for size in sorted({*GRID, batch})]
    found = {
        "itlFactor": ITL_FACTOR,
        "document": measured(stage)["status"]["measurements"],
        "advised": {"status": advised, "cluster": batch, **decisions},
        "bad": bad,
        "patched": patched,
        "sweep": sweep,
    }
    if record := os.environ.get("SLM_RECORD"):
        Path(record).write_text(json.dumps(found, indent=1) + "\n")
    return found


def loads(batch: int) -> list[int]:
    """Clients: a few, parts of the batch, and all of it."""
    return sorted({few for few in FEW if few < batch} | {round(part * batch) for part in PARTS})


def measure(stage: Stage) -> int:
    """The profile that the CLI writes for the Deployment, measured by the operator: the batch that its status advises."""
    written = slm(stage, "advise", "--for", f"deploy/{NAME}", *QUESTION, *LOAD, "--output", "slmprofile")
    stage.cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", "-", stdin=written)
    until(lambda: "advice" in ended(stage), timeout_s=1800)
    return int(ended(stage)["advice"]["configuration"]["batchSize"])


def ended(stage: Stage) -> dict[str, Any]:
    """The profile's status, unless it has failed."""
    status: dict[str, Any] = measured(stage).get("status") or {}
    assert status.get("phase") != "Failed", status
    assert "noAdviceBecause" not in status, status["noAdviceBecause"]
    return status


def profile_name(stage: Stage) -> str:
    return kubectl(stage, "get", "slmp", "--output=jsonpath={.items[*].metadata.name}")


def measured(stage: Stage) -> dict[str, Any]:
    return stage.get("slmp", profile_name(stage), NAMESPACE)


def decision(stage: Stage, profile: str, workload: Path) -> int:
    """The batch that is advised for a workload in a file, from the exported profile."""
    said = slm(stage, "advise", "--for", str(workload), "-f", profile, *QUESTION, "--output", "json")
    return int(json.loads(said)["flags"]["--max-num-seqs"])


def apply_patch(stage: Stage, file: Path) -> int:
    """As the page says it: the patch from the cluster's own profile, applied by kubectl. The batch that runs then."""
    file.write_text(slm(stage, "advise", "--for", f"deploy/{NAME}", *QUESTION, *LOAD, "--output", "json-patch"))
    kubectl(stage, "patch", f"deploy/{NAME}", "--type", "json", "--patch-file", str(file))
    wait_until_rolled_out(stage)
    (container,) = stage.get("deploy", NAME, NAMESPACE)["spec"]["template"]["spec"]["containers"]
    (flag,) = (one for one in container["args"] if one.startswith("--max-num-seqs"))
    return int(flag.partition("=")[2])


def swept(stage: Stage, size: int, clients: list[int]) -> dict[str, Any]:
    """The Deployment as it was written, with another batch."""
    stage.apply(manifest(size))
    wait_until_rolled_out(stage)
    return loaded(stage, size, clients)


@pytest.fixture(scope="module")
def story(kept: dict[str, Any]) -> Story:
    """What was kept, shown whatever is judged of it."""
    found = Story(kept)
    print("", *steps(found), "", *expectations(found), sep="\n")
    return found


def test_every_way_to_ask_gives_the_same_decision(kept: dict[str, Any]) -> None:
    assert len(set(kept["advised"].values())) == 1, kept["advised"]


def test_the_engine_was_started_badly(story: Story) -> None:
    assert not story.keeps(story.bad) or ratio(story.bad.full, story.best.full) < 0.85


def test_the_advised_patch_reaches_the_best_of_a_sweep(story: Story) -> None:
    print(f"B={story.patched.batch_size} reaches {story.reached:.1%} of B={story.best.batch_size}")
    assert story.reached >= REACHES or story.reached * (1 + story.chance_fraction) >= 1


def test_the_patched_engine_keeps_the_slo(story: Story) -> None:
    itl_ms, limit_ms = story.patched.full.figures.itl_ms, story.limits.itl_ms
    assert limit_ms is not None
    print(f"mean ITL {itl_ms:.1f} ms, limit {limit_ms:.1f} ms")
    assert itl_ms <= limit_ms * (1 + (story.patched.full.ci_fraction or 0))


def test_what_was_expected_at_each_load_was_seen(story: Story, kept: dict[str, Any]) -> None:
    several = [step for step in (kept["patched"], *kept["sweep"]) if len(step["windows"]) > 1]
    assert [one.seen.clients for one in story.compared] == [w["clients"] for step in several for w in step["windows"]]
    assert max(one.worst_fraction for one in story.compared) <= EXPECTED_WITHIN
