"""Replicas of an engine that lacks a flag of ours start without it, and the deployment says what they do without."""

from dataclasses import replace
from typing import Any

import pytest
from slm_operator.planning.actions import Apply, WriteStatus
from slm_operator.planning.deployment.advising import advice_of
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.fleet.demand import demand_of
from slm_operator.planning.views import Assignment

from tests import builders as build

FLAG = "--max-num-queued-reqs"
OLD, NEW = "vllm/vllm-openai:v0.28.0", "vllm/vllm-openai:v0.32.0"


def served(image: str, measured_image: str | None, version: str, *words: str) -> tuple[list[str], str]:
    """The arguments of a replica, and what the advice says."""
    record = build.deployment(spec={"engine": {"image": image}, "sharing": {"mode": "Exclusive"}})
    document = build.imported()
    document = replace(document, engine=replace(document.engine, image=measured_image, version=version, args=words))
    profile = build.profile(record, document)
    wants = demand_of(record, profile, advice_of(record, profile))
    assert wants is not None
    room = Assignment(nodes=("gpu-1",), slots=1, slice_class=wants.slice_class)
    view = build.deployment_view(record, profile, assignment=room, workload=None)
    made = plan_deployment(view, build.SETTINGS, build.NOW)
    (pods,) = (a.manifest for a in made.actions if isinstance(a, Apply) and a.manifest["kind"] == "Deployment")
    (write,) = (a for a in made.actions if isinstance(a, WriteStatus))
    said: dict[str, Any] = next(c for c in write.status["conditions"] if c["type"] == "Advised")
    return pods["spec"]["template"]["spec"]["containers"][0]["args"], str(said["message"])


CASES: dict[str, tuple[tuple[str, ...], bool]] = {
    "measured in this image, which is too old": ((OLD, OLD, "0.28.0"), False),
    "measured in this image, which is new": ((NEW, NEW, "0.32.0"), True),
    "built by somebody who added the flag": (("own/vllm:1", "own/vllm:1", "0.24.0+rhai1", FLAG, "9"), True),
    "built by somebody from an old one": (("own/vllm:1", "own/vllm:1", "0.24.0+rhai1"), False),
    "of no known version, and it refused the flag": (
        ("own/vllm:1", "own/vllm:1", "unknown", "--shutdown-timeout", "0"),
        False,
    ),
    "built from no release": (("own/vllm:1", "own/vllm:1", "0.1.dev1+g3f5c25d"), True),
    "imported, and served by a new image": ((NEW, None, "0.6.2"), True),
    "imported, and served by an old image": ((OLD, None, "0.32.0"), False),
    "imported, and served by an image of one's own": (("own/vllm:1", None, "0.6.2"), True),
    "measured in another image": ((NEW, OLD, "0.28.0"), True),
}


@pytest.mark.parametrize("case", CASES)
def test_flag_is_left_out_only_of_engines_known_to_lack_it(case: str) -> None:
    engine, is_passed = CASES[case]
    args, said = served(*engine)  # type: ignore[arg-type]
    assert (FLAG in args) is is_passed
    assert (f"does not know {FLAG}: requests beyond two batches wait" in said) is not is_passed
