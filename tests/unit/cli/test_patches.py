"""A change to somebody else's workload: applied by the reference library, and read again, it is the advice and nothing else."""

from __future__ import annotations

import copy
import json
import shlex
from typing import TYPE_CHECKING, Any

import jsonpatch
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from slm_operator.cli.argument_groups import CHANGES
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.workloads.read import Found
from slm_operator.cli.inputs.workloads.registry import kind_of
from slm_operator.cli.render.patches.forms import FORMS, Change
from slm_operator.cli.render.patches.operations import applied, operations

from tests.builders import engines
from tests.builders.engines import IMAGE, MODEL, deployment, shell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BATCH, STEP, BLOCKS = "--max-num-seqs", "--max-num-batched-tokens", "--num-gpu-blocks-override"
ADVISED: dict[str, str | None] = {BATCH: "96", STEP: "8192", BLOCKS: None}


def found(raw: dict[str, Any], *beside: dict[str, Any]) -> Found:
    kind = kind_of(raw)
    assert kind is not None
    return Found(kind, raw, beside)


def patch_of(one: Found, flags: dict[str, str | None] = ADVISED) -> list[dict[str, Any]]:
    return operations(one.engine(), one.raw, flags)


def flags_of(one: Found, raw: dict[str, Any] | None = None) -> dict[str, str | None]:
    return {flag.name: flag.value for flag in one.engine(raw).line.flags}


Words = list[str]
PLACES: dict[str, Callable[[Words], Found]] = {
    "arguments": lambda words: found(deployment({"name": "e", "image": IMAGE, "args": [MODEL, *words]})),
    "command": lambda words: found(deployment({"name": "e", "command": ["vllm", "serve", MODEL, *words]})),
    "both": lambda words: found(deployment({"name": "e", "command": ["vllm", "serve"], "args": [MODEL, *words]})),
    "shell": lambda words: found(
        deployment(shell(f"set -e; exec vllm serve {MODEL} {shlex.join(words)} 2>&1 | tee log"))
    ),
    "lines": lambda words: found(deployment(shell(f"vllm serve {MODEL} \\\n  {' '.join(map(shlex.quote, words))}\n"))),
    "variable": lambda words: found(deployment(shell("vllm serve $MORE", env={"MORE": " ".join([MODEL, *words])}))),
    "behind a shell": lambda words: found(deployment(shell('vllm serve "$@"', args=("x", MODEL, *words)))),
    "KServe": lambda words: found(engines.inference_service(args=words), engines.runtime()),
    "LLMInferenceService": lambda words: found(
        engines.llm_inference_service(env=[{"name": "VLLM_ADDITIONAL_ARGS", "value": " ".join(words)}])
    ),
    "LLMInferenceService, arguments": lambda words: found(engines.llm_inference_service(args=words)),
    "KubeAI": lambda words: found(engines.kubeai_model(args=words)),
}

OWN = st.sampled_from(["--enforce-eager", "--seed=1", "--kv-cache-dtype=fp8", "--enable-prefix-caching"])


def _spelled(names: Sequence[str], values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    """One flag by one of its names, as one word or two."""
    return st.tuples(st.sampled_from(names), st.sampled_from(values), st.booleans()).map(
        lambda one: [f"{one[0]}={one[1]}"] if one[2] else [one[0], one[1]]
    )


LINES = st.lists(
    st.one_of(
        OWN.map(lambda word: [word]),
        _spelled(["--port", "--gpu-memory-utilization", "--gpu_memory_utilization"], ["1"]),
        _spelled([BATCH, "--max_num_seqs", "--max-num-s"], ["64"]),
        _spelled([STEP, "--max_num_batched-tokens"], ["512"]),
        _spelled([BLOCKS, "--num_gpu_blocks_override"], ["9"]),
    ),
    max_size=7,
).map(lambda parts: [word for part in parts for word in part])


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@given(words=LINES)
def test_patched_workload_has_the_advised_flags(place: Callable[[Words], Found], words: Words) -> None:
    before = place(words)
    patch = patch_of(before)
    raw = jsonpatch.apply_patch(copy.deepcopy(before.raw), patch)
    assert raw == applied(before.raw, patch)
    kept = {name: value for name, value in flags_of(before).items() if name not in ADVISED}
    assert flags_of(before, raw) == kept | {BATCH: "96", STEP: "8192"}
    assert before.engine(raw).line.own == before.engine().line.own
    assert before.engine(raw).line.model == before.engine().line.model
    assert patch_of(Found(before.kind, raw, before.beside)) == []


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_patch_for_another_state_is_refused_whole(place: Callable[[Words], Found]) -> None:
    patch = patch_of(place([BATCH, "64"]))
    kinds = [one["op"] for one in patch]
    assert kinds == sorted(kinds, key=["test", "replace", "remove", "add"].index)
    with pytest.raises(jsonpatch.JsonPatchTestFailed):
        jsonpatch.apply_patch(place([BATCH, "65"]).raw, patch)


def test_nothing_else_of_a_shells_text_changes() -> None:
    script = f"# start\nexport A=1\nvllm serve {MODEL} --max_num_seqs='64' {BLOCKS} 9 --seed \"1\"  # most\necho done\n"
    one = found(deployment(shell(script)))
    after = applied(one.raw, patch_of(one))["spec"]["template"]["spec"]["containers"][0]["command"][2]
    assert (
        after
        == f'# start\nexport A=1\nvllm serve {MODEL} --max_num_seqs=96 --seed "1" {STEP}=8192  # most\necho done\n'
    )


def test_runtime_of_many_services_is_left_alone() -> None:
    one = found(engines.inference_service(), engines.runtime(args=["--port=80", f"{BATCH}=8"]))
    patch = patch_of(one)
    assert patch == [{"op": "add", "path": "/spec/predictor/model/args", "value": [f"{BATCH}=96", f"{STEP}=8192"]}]
    assert flags_of(one, applied(one.raw, patch))[BATCH] == "96"


def test_flag_that_only_a_runtime_can_take_back_is_refused() -> None:
    one = found(engines.inference_service(), engines.runtime(args=[f"{BLOCKS}=8"]))
    with pytest.raises(Refused, match=f"{BLOCKS} stands in ServingRuntime vllm, and nothing here can take it back"):
        patch_of(one)


def test_text_of_a_runtime_without_arguments_is_refused() -> None:
    one = found(engines.inference_service(), engines.runtime(command=["sh", "-c", "vllm serve /mnt/models"], args=[]))
    with pytest.raises(Refused, match="a text of ServingRuntime vllm, which passes no further arguments on"):
        patch_of(one)


@pytest.mark.parametrize("env", [{}, {"env": [{"name": "A", "value": "b"}]}], ids=["none", "others"])
def test_variable_of_kserve_is_made_where_none_is(env: dict[str, Any]) -> None:
    one = found(engines.llm_inference_service(**env))
    after = jsonpatch.apply_patch(one.raw, patch_of(one))
    variables = after["spec"]["template"]["containers"][0]["env"]
    assert variables[-1] == {"name": "VLLM_ADDITIONAL_ARGS", "value": f"{BATCH}=96 {STEP}=8192"}


KEY = "sk-very-secret"


def test_secret_is_never_written() -> None:
    in_text = found(deployment(shell(f"vllm serve {MODEL} --api-key {KEY} {BATCH} 64")))
    with pytest.raises(Refused, match="holds --api-key with its value") as refused:
        patch_of(in_text)
    assert KEY not in str(refused.value)
    in_list = found(deployment({"name": "e", "image": IMAGE, "args": [MODEL, "--api-key", KEY, BATCH, "64"]}))
    patch = patch_of(in_list)
    assert KEY not in json.dumps(patch)
    with pytest.raises(Refused, match="--api-key is among its arguments") as refused:
        FORMS["args"](change(in_list))
    assert KEY not in str(refused.value)


def change(one: Found) -> Change:
    patch = patch_of(one)
    return Change(raw=one.raw, after=one.engine(applied(one.raw, patch)), patch=patch)


def test_forms_of_the_command_line_are_those_that_are_written() -> None:
    assert set(CHANGES) == set(FORMS)


def test_arguments_are_written_one_a_line() -> None:
    one = found(deployment({"name": "e", "image": IMAGE, "args": [MODEL, "--seed", "1", f"{BATCH}=64"]}))
    (text,) = FORMS["args"](change(one)).values()
    lines = text.splitlines()
    assert lines == [MODEL, "--seed", "1", f"{BATCH}=96", f"{STEP}=8192"]
    again = found(deployment({"name": "e", "image": IMAGE, "args": lines}))
    assert patch_of(again) == []


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_kustomize_names_the_object_and_the_same_patch(place: Callable[[Words], Found]) -> None:
    one = place([BATCH, "64"])
    files = FORMS["kustomize"](change(one))
    component = yaml.safe_load(files["kustomization.yaml"])
    (listed,) = component["patches"]
    patch = yaml.safe_load(files[listed["path"]])
    assert (component["kind"], patch) == ("Component", patch_of(one))
    metadata, (group, version) = one.raw["metadata"], one.raw["apiVersion"].split("/")
    target = {"group": group, "version": version, "kind": one.raw["kind"]} | metadata
    assert listed["target"] == target
    assert flags_of(one, jsonpatch.apply_patch(one.raw, patch))[BATCH] == "96"


def test_values_of_kubeais_chart_replace_its_list() -> None:
    one = found(engines.kubeai_model(args=["--seed=1", f"{BATCH}=64"]))
    (text,) = FORMS["helm-values"](change(one)).values()
    args = yaml.safe_load(text)["catalog"]["chat"]["args"]
    assert args == ["--seed=1", f"{BATCH}=96", f"{STEP}=8192"]
    assert patch_of(found(engines.kubeai_model(args=args))) == []


def test_values_of_a_chart_that_is_not_known_are_refused() -> None:
    with pytest.raises(Refused, match="Deployment team/chat: which chart made it"):
        FORMS["helm-values"](change(found(deployment())))


def test_variable_that_is_made_of_others_is_never_cut_up() -> None:
    """Its words stand nowhere as they are read, so what would be changed there is another text."""
    env = [{"name": "BASE", "value": f"{BATCH} 64"}, {"name": "MORE", "value": "$(BASE) --seed=1"}]
    for one in (
        found(deployment({**shell(f"vllm serve {MODEL} $MORE"), "env": env})),
        found(
            engines.llm_inference_service(env=[env[0], {"name": "VLLM_ADDITIONAL_ARGS", "value": "$(BASE) --seed=1"}])
        ),
    ):
        assert flags_of(one)[BATCH] == "64"
        assert not any("/env/" in change["path"] for change in patch_of(one))
