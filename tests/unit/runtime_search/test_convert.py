from __future__ import annotations

import json

import pytest
from slm_core.codec import DocumentError, parse_document, to_json
from slm_core.convert import MeasuredOn, from_csv, models_in
from slm_core.measurements import Engine, Gpu, Mark, SharingMode

from tests import builders as build

ON = MeasuredOn(engine=Engine(version="0.32.0"), gpu=Gpu(product="NVIDIA-L4", memory_bytes=24 * 2**30))

HEADER = (
    "model,max_num_seqs,replicas,requests,duration_s,input_tokens,output_tokens,total_tokens_per_s,"
    "output_tokens_per_s,mean_itl_ms,kv_peak_fraction_of_pool,preemptions,mean_running_requests"
)
ROW = "tiny,8,1,100,10,1000,2000,300,200,5.0,0.5,0,7.9"


@pytest.mark.parametrize("model", build.MODELS)
def test_the_published_sweeps_become_documents(model: str) -> None:
    document = build.published(model)
    assert parse_document(json.loads(json.dumps(to_json(document)))) == document
    assert [p.batch_size for p in document.points] == sorted(p.batch_size for p in document.points)
    assert all((Mark.PREEMPTED in p.marks) == (p.preemptions > 0) for p in document.points)


def test_a_published_row() -> None:
    at_96 = next(p for p in build.published("opt-1.3b").points if p.batch_size == 96)
    assert at_96.throughput_tokens_per_second == 9032.8
    assert at_96.itl_ms.mean_ms == 13.894
    assert at_96.kv_pool_bytes == 54_480_000_000
    assert at_96.input_tokens_mean == pytest.approx(110.6, abs=0.1)
    assert at_96.ttft_ms is None, "all requests were sent at once: their TTFT is that of the queue"


def test_published_packs() -> None:
    packs = {(p.batch_size, p.replicas): p for p in build.published_packs("opt-1.3b").points}
    assert packs[96, 2].sharing_mode is SharingMode.MPS
    assert packs[96, 2].kv_pool_bytes is not None
    assert packs[96, 2].kv_pool_bytes < 54.48e9 / 2
    assert packs[256, 4].marks == (Mark.PREEMPTED,)


def test_models_are_listed_in_order() -> None:
    text = (build.DATA / "batch_sweep.csv").read_text()
    assert models_in(text, source="batch_sweep.csv") == build.MODELS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "f.csv: no column model, max_num_seqs, replicas", id="empty"),
        pytest.param("a,b\n1,2\n", "f.csv: no column model", id="other columns"),
        pytest.param(HEADER + '\n"tiny', "f.csv: not a CSV file", id="open quote"),
        pytest.param(
            f"{HEADER}\n{ROW.replace('tiny', 'other')}\n",
            "no row of model 'tiny'; there are rows of other",
            id="other model",
        ),
        pytest.param(
            f"{HEADER}\n{ROW.replace('5.0', 'fast')}\n",
            "f.csv line 2, mean_itl_ms: 'fast' is not a finite number",
            id="word",
        ),
        pytest.param(
            f"{HEADER}\n{ROW.replace('5.0', 'nan')}\n", "f.csv line 2, mean_itl_ms: 'nan' is not a finite", id="nan"
        ),
        pytest.param(
            f"{HEADER}\n{ROW.replace(',0,', ',-1,')}\n", "f.csv line 2, preemptions: '-1' is not", id="negative"
        ),
        pytest.param(
            f"{HEADER}\n{ROW.replace(',100,', ',0,')}\n", "f.csv line 2, requests: 0 is not", id="no requests"
        ),
        pytest.param(f"{HEADER}\ntiny,8\n", "f.csv line 2, replicas: None is not", id="short row"),
        pytest.param(
            f"{HEADER},sharing\n{ROW},mps\n", "f.csv line 2, sharing: 'mps' with 1 replicas", id="pack of one"
        ),
    ],
)
def test_a_bad_csv_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        from_csv(text, model="tiny", on=ON, source="f.csv")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
