"""Whatever a profile's log says, what is planned from it is a status that the API server takes."""

import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_operator.api.crd import KINDS, definition
from slm_operator.planning.actions import Plan, WriteStatus
from slm_operator.planning.deployment.plan import plan_deployment
from slm_operator.planning.profile.log import read_log
from slm_operator.planning.profile.plan import plan_profile
from slm_operator.planning.views import ProfileView

from tests import builders as build
from tests.hostile_log import DOCUMENT, LOGS, LONG, line

pytestmark = pytest.mark.slow
JOB = build.job(build.profile(build.deployment()))
POD = build.measuring(JOB)
ETCD_BYTES = 1_500_000

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(min_size=1).map(lambda t: t * 5000),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
fields = ("point", "of", "message", "class", "remedy", "document")
events = st.fixed_dictionaries(
    {"event": st.sampled_from(["phase", "progress", "failed", "result"])},
    optional=dict.fromkeys(fields, anything),
)
documents = st.dictionaries(st.sampled_from([*DOCUMENT, "more"]), anything, max_size=3).map(
    lambda changes: {"event": "result", "document": DOCUMENT | changes}
)


@cache
def validator(kind: str) -> jsonschema.Draft4Validator:
    (found,) = (one for one in KINDS if one.kind == kind)
    schema = definition(found)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    return jsonschema.Draft4Validator(schema)


def status(plan: Plan) -> dict[str, Any]:
    """The status that is planned, which the CRD takes."""
    (write,) = (action for action in plan.actions if isinstance(action, WriteStatus))
    text = json.dumps(write.status, allow_nan=False)
    assert len(text) < ETCD_BYTES
    validator(write.kind).validate(json.loads(text))
    for condition in write.status["conditions"]:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,127}", condition["reason"])
    return dict(write.status)


def planned(log: str, **more: Any) -> dict[str, Any]:
    said = read_log(build.printed(f"{log}\n"))
    view = ProfileView(profile=build.profile(build.deployment()), job=JOB, pod=replace(POD, **more), log=said)
    return status(plan_profile(view, build.SETTINGS, build.NOW))


@pytest.mark.parametrize("phase", ["Running", "Succeeded", "Failed"])
@pytest.mark.parametrize("log", LOGS)
def test_a_hostile_log_becomes_a_status_that_is_taken(log: str, phase: str) -> None:
    assert planned(LOGS[log], phase=phase)["phase"] in {"Running", "Failed", "Complete"}


@given(st.lists(events | documents, max_size=3))
def test_no_event_makes_a_status_that_is_refused(said: list[dict[str, Any]]) -> None:
    planned("\n".join(json.dumps(event, separators=(",", ":")) for event in said))


def test_long_text_is_cut_with_a_note_and_short_text_is_whole() -> None:
    reported = planned(line(event="failed", **{"class": "EngineDied", "message": "exit 137", "remedy": LONG}))
    message = reported["conditions"][0]["message"]
    assert reported["conditions"][0]["reason"] == "EngineDied"
    assert message.startswith("exit 137: mmm")
    assert "m…. When it is corrected, " in message


def test_long_text_of_an_imported_document_fits_into_status() -> None:
    record = build.deployment()
    document = replace(build.imported(), complete=False, incomplete_because=LONG)
    view = build.deployment_view(record, build.profile(record, document))
    reported = status(plan_deployment(view, build.SETTINGS, build.NOW))
    assert any("ended early (mmm" in sentence for sentence in reported["advice"]["sentences"])
