"""What a node remembers: JSON that reads back."""

from dataclasses import replace

import pytest
from slm_operator.api import names
from slm_operator.partitioning.plugin_config import config_key, plugin_config
from slm_operator.planning.actions import PatchNode
from slm_operator.planning.fleet.node.annotations import (
    RELEASED,
    Marks,
    change_in,
    change_text,
    failures_in,
    failures_text,
)
from slm_operator.planning.fleet.plan import plan_fleet
from slm_operator.watch.records import Taint

from tests import builders as build

CHAT = Marks("mps-2", "team.chat")


@pytest.mark.parametrize(("becomes", "words"), [(CHAT, "mps-2 for team.chat"), (RELEASED, "given back")])
def test_a_change_is_data_and_its_words_are_made_last(becomes: Marks, words: str) -> None:
    assert change_in(change_text(becomes, 1)) == becomes
    assert str(becomes) == words
    assert f"it will be {becomes}" == f"it will be {words}"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "cake",
        "given back",
        "[]",
        "{}",
        '{"class": "mps-2"}',
        '{"class": 2, "serves": 3}',
        "{" * 9,
        "[" * 100_000,
    ],
)
def test_a_change_that_cannot_be_read_is_none(text: str | None) -> None:
    assert change_in(text) is None


def test_failures_read_back_whatever_their_reasons_say() -> None:
    failures = {"mps-4": 'no daemon: "gone"\nfor good', "mps-2": "a: b"}
    assert failures_in(failures_text(failures)) == failures
    assert failures_text({}) is None


@pytest.mark.parametrize("text", [None, "", "\n", "[]", "mps-2: late"])
def test_no_failures_are_none(text: str | None) -> None:
    assert failures_in(text) == {}


def test_a_change_that_another_process_began_goes_on() -> None:
    text = change_text(CHAT, 1)
    began = {names.CHANGE_STARTED_ANNOTATION: build.NOW.isoformat(), names.CHANGING_TO_ANNOTATION: text}
    node = build.node("gpu-1", taints=(Taint(key=names.CHANGING_TAINT),))
    node = replace(node, meta=replace(node.meta, annotations={**began, names.FORMER_CONFIG_ANNOTATION: ""}))
    keys = build.config_map(**{config_key(build.MPS_2): plugin_config(build.MPS_2)})
    view = build.fleet_view(build.demand(), nodes=(node,), config_map=keys)
    (step,) = plan_fleet(view, build.SETTINGS, build.later(60)).plan.actions
    assert isinstance(step, PatchNode)
    assert step.labels[build.SETTINGS.device_plugin.config_label] == config_key(build.MPS_2)
