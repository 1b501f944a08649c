"""The operator asks the search just what the runtime is then asked: or it would measure what it does not lack."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from slm_core.measurements import CPU
from slm_operator.api import names
from slm_operator.manifests.profile import Where, profile_args, profile_spec
from slm_operator.manifests.question import asking, question_of, request_for
from slm_runtime import cli
from slm_runtime.task import request_on
from unit.planning.searched import searched

from tests import builders as build

ASKED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a load": {"workload": {"concurrencyPerGpu": 20}},
    "a rate": {"workload": {"requestsPerSecondPerGpu": 2.5}},
    "limits": {"slo": {"itl": {"maxMs": 9, "statistic": "P99"}, "ttft": {"maxMs": 80}}},
    "a factor": {"slo": {"itl": {"maxFactor": 2.5}}},
    "its own packs": {"sharing": {"mode": "TimeSlicing", "enginesPerGpu": 6}},
    "one engine": {"sharing": {"enginesPerGpu": 1}},
    "no packs": {"sharing": {"mode": "Exclusive"}},
    "smaller packs": {"sharing": {"maxEnginesPerGpu": 2}},
    "how to judge": {"advisor": {"minGain": 0.3, "minEfficiency": 0.2}, "profiling": {"maxGpuMinutes": 33}},
}


@pytest.mark.parametrize("spec", ASKED.values(), ids=ASKED)
def test_the_operator_asks_the_search_what_the_runtime_asks_it(spec: dict[str, Any]) -> None:
    record = build.deployment(spec=spec)
    assert record.spec is not None
    profile, question = profile_spec(record.spec), question_of(record.spec)
    document = searched(build.deployment())
    document = replace(document, gpu=replace(document.gpu, product=CPU))
    here = Where(opt_in_label=names.OPT_IN_LABEL, device="cpu")
    words = profile_args(asking(profile, question), "p", here)
    at = words.index("--")
    task = cli._task(cli._parser().parse_args(words[:at]), tuple(words[at + 1 :]), "a test")
    theirs = request_on(task, None, lambda _: None)
    ours = request_for(question, profile, document)
    assert replace(ours, max_model_len=theirs.max_model_len) == theirs
