from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from slm_core.codec import to_json
from slm_operator.cli.main import main
from unit.cli.golden import CASES, GOLDEN, PACKS, ROOT, SWEEP, printed

from tests.builders import published_ledger

SCHEMA = json.loads((ROOT / "docs/reference/schemas/advice.json").read_text())
PUBLISHED = [
    ("opt-1.3b", "2", 96), ("opt-1.3b", "3", 128), ("opt-1.3b", "4", 256),
    ("opt-2.7b", "2", 96), ("opt-2.7b", "3", 128), ("opt-2.7b", "4", 256),
    ("llama-2-7b", "2", 96), ("llama-2-7b", "3", 192), ("llama-2-7b", "4", 192),
]  # fmt: skip


def advised(*arguments: str) -> dict:
    answer = json.loads(printed(("advise", *arguments, "-o", "json")))
    jsonschema.validate(answer, SCHEMA)
    return answer


@pytest.mark.parametrize(("name", "arguments"), CASES.items(), ids=list(CASES))
def test_prints_what_the_golden_file_says(name: str, arguments: tuple[str, ...]) -> None:
    assert printed(arguments) == (GOLDEN / name).read_text()


@pytest.mark.parametrize(("model", "factor", "batch_size"), PUBLISHED)
def test_gives_the_published_batch_size(model: str, factor: str, batch_size: int) -> None:
    answer = advised(*SWEEP, "--model", model, "--itl-factor", factor, "--epsilon", "0.1")["configuration"]
    assert (answer["batchSize"], answer["enginesPerGpu"], answer["sharingMode"]) == (batch_size, 1, "Exclusive")


BUSY = str(ROOT / "tests/data/field/profiles/smollm2-135m-two-cores.json")


def test_confirmed_point_is_advised_and_alternatives_are_named() -> None:
    answer = advised("-f", BUSY, "--itl-factor", "4")
    assert answer["configuration"]["batchSize"] == 32
    assert [a["configuration"]["batchSize"] for a in answer["alternatives"]] == [68, 66, 64]
    first = answer["alternatives"][0]
    assert first["gain"] < first["noise"]
    reasons = {(c["configuration"]["batchSize"], c["verdict"]): c["reason"] for c in answer["candidates"]}
    assert (reasons[32, "Chosen"], reasons[68, "Kept"], reasons[84, "Rejected"]) == ("Noise", "Noise", "Precision")
    assert "B=68 might make up to 33.1% more at 2.0 times the ITL" in " ".join(
        printed(("advise", "-f", BUSY, "--itl-factor", "4")).split()
    )


def test_no_advice_is_printed_where_only_b_1_can_be_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(Path(BUSY).read_text())
    for point in document["points"]:
        point["marks"] = [] if point["batchSize"] == 1 else ["Throttled"]
    file = tmp_path / "throttled.json"
    file.write_text(json.dumps(document))
    assert main(["advise", "-f", str(file), "--itl-ms", "400"]) != 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "every single-engine point above B=1 is in doubt: the GPU lowered its clocks" in said.err
    assert "see to the GPU's cooling and power, and measure again" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--itl-factor", "4"),
        ("--itl-ms", "1"),
        ("--itl-ms", "1000"),
        ("--concurrency", "50"),
        ("--requests-per-second", "10"),
        ("--engines-per-gpu", "3", "--mode", "MPS"),
        ("--objective", "FreeMemory"),
        ("--itl-statistic", "P99", "--itl-ms", "100"),
        ("--mode", "Exclusive"),
    ],
    ids=" ".join,
)
def test_every_answer_keeps_to_the_documented_schema(arguments: tuple[str, ...]) -> None:
    advised(*SWEEP, *PACKS, "--model", "opt-1.3b", *arguments)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (("--itl-ms", "3.6"), "slo: at B=1 mean ITL 3.6 ms exceeds 3.6 ms: raise the limit to at least 3.7 ms"),
        (("--itl-ms", "1"), "slo: at B=1 mean ITL 3.6 ms exceeds 1.0 ms: raise the limit to at least 3.7 ms"),
        (("--itl-factor", "0.1"), "slo: at B=1 mean ITL 3.6 ms exceeds 0.8 ms: raise the limit to at least 3.7 ms"),
    ],
    ids=["just below", "far below", "as a factor"],
)
def test_an_slo_below_the_itl_of_one_sequence(
    limit: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and the remedy for whoever asked; the closest that can be had for whoever reads on."""
    monkeypatch.chdir(ROOT)
    code = main(["advise", *SWEEP, "--model", "opt-1.3b", *limit, "-o", "json"])
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (code, answer["feasible"], answer["configuration"]["batchSize"], answer["closest"]["check"]) == (
        2,
        False,
        1,
        "SLO",
    )
    assert err.startswith(f"kubectl slm advise: {sentence}")
    assert len(err.splitlines()) == 1


def test_an_slo_that_one_sequence_just_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["advise", *SWEEP, "--model", "opt-1.3b", "--itl-ms", "3.623", "-o", "json"]) == 0


def test_yaml_and_json_are_one_answer() -> None:
    arguments = ("advise", *SWEEP, "--model", "opt-1.3b")
    assert yaml.safe_load(printed((*arguments, "-o", "yaml"))) == json.loads(printed((*arguments, "-o", "json")))


def test_advise_json_of_a_published_pack_has_documented_keys() -> None:
    answer = advised(*SWEEP, *PACKS, "--model", "opt-1.3b", "--epsilon", "0.1", "--itl-ms", "1000")
    assert answer["configuration"] == {
        "batchSize": 256, "kvCacheBytes": None, "enginesPerGpu": 2, "sharingMode": "MPS", "maxNumBatchedTokens": 2048,
    }  # fmt: skip
    assert (answer["gain"], answer["freedBytes"]) == (pytest.approx(14669.5 / 11864.8 - 1, abs=1e-4), None)
    assert (answer["figures"]["tokensPerSecondPerGpu"], answer["figures"]["itlMs"]) == (14669.5, 37.073)
    assert answer["bestSingle"]["tokensPerSecondPerGpu"] == 11864.8
    frontier = [one["configuration"] for one in answer["paretoFrontier"]]
    assert {(p["batchSize"], p["enginesPerGpu"]) for p in frontier} >= {(1, 1), (256, 2)}
    chosen = [c for c in answer["candidates"] if c["verdict"] == "Chosen"]
    assert [(c["configuration"]["batchSize"], c["reason"], c["message"]) for c in chosen] == [
        (256, "Rank", "the most tokens per second of all that passed: 14,670")
    ]


def test_a_ledger_beside_the_csv_turns_peaks_into_bytes(tmp_path: Path) -> None:
    """The sweep's peak at B = 96 is 15.98 % of the pool; the bytes given are filled to 92 % by it."""
    ledger = tmp_path / "ledger.json"
    ledger.write_text(json.dumps(to_json(published_ledger("opt-1.3b"))))
    answer = advised(*SWEEP, "--model", "opt-1.3b", "--itl-factor", "2", "--ledger", str(ledger))
    kv = answer["configuration"]["kvCacheBytes"]
    assert kv == pytest.approx(0.1598 * 54.48e9 / 0.92, rel=1e-3)
    known = published_ledger("opt-1.3b")
    assert answer["freedBytes"] == known.device_bytes - known.fixed_bytes - kv


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)

    def undescribed(node: object, at: str) -> list[str]:
        if not isinstance(node, dict):
            return []
        named = node.get("properties", {})
        missing = [f"{at}.{k}" for k, v in named.items() if "description" not in v]
        return missing + [m for k, v in node.items() for m in undescribed(v, f"{at}.{k}")]

    assert undescribed(SCHEMA, "") == []


def test_no_rows_of_another_model_are_used() -> None:
    answer = advised(*SWEEP, *PACKS, "--model", "opt-2.7b", "--itl-factor", "4")
    assert {c["configuration"]["batchSize"] for c in answer["candidates"]} <= {
        1,
        2,
        4,
        8,
        16,
        32,
        64,
        96,
        128,
        192,
        256,
        384,
        512,
    }


def test_default_slo_is_the_one_of_the_api() -> None:
    arguments = (*SWEEP, "--model", "opt-1.3b")
    assert advised(*arguments) == advised(*arguments, "--itl-factor", "4")


PACKED = (*SWEEP, *PACKS, "--model", "opt-1.3b")
PRICED = ("--price-per-gpu-hour", "2.5", "--currency", "EUR")


def test_a_price_gives_every_candidate_its_cost() -> None:
    answer = advised(*PACKED, *PRICED)
    assert answer["price"] == {"perGpuHour": 2.5, "currency": "EUR"}
    for one in (answer, *answer["candidates"]):
        rate = one.get("figures", one)["tokensPerSecondPerGpu"]
        assert one["costPerMillionTokens"] == pytest.approx(2.5e6 / rate / 3600)
    shown = printed(("advise", *PACKED, *PRICED))
    assert "EUR/M TOK" in shown
    assert "cost             0.056 EUR per million tokens" in shown


def test_published_packs_take_more_energy_than_one_engine() -> None:
    """They make 13 % more with 21 % more watts: https://arxiv.org/abs/2503.08311 measured them."""
    answer = advised(*PACKED, "--objective", "EnergyPerToken")
    assert (answer["configuration"]["batchSize"], answer["configuration"]["enginesPerGpu"]) == (256, 1)
    assert answer["joulesPerToken"] == pytest.approx(335.8 / 10870.9, rel=1e-3)


@pytest.mark.parametrize("price", ["0", "-1", "nan", "inf", "1e7", "much"])
def test_a_price_that_is_none_is_refused(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["advise", *PACKED, f"--price-per-gpu-hour={price}"])
    assert ended.value.code == 2
    assert "--price-per-gpu-hour" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["", "eur", "EURO", "€", "EUR\n"])
def test_a_currency_is_a_code_as_the_operators_is(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["advise", *PACKED, "--price-per-gpu-hour=1", f"--currency={code}"])
    assert ended.value.code == 2
    assert f"--currency: {code!r} is no code of three capital letters, as EUR" in capsys.readouterr().err


def test_energy_without_watts_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(Path(BUSY).read_text())
    assert not any("meanPowerWatts" in point for point in document["points"])
    assert main(["advise", "-f", BUSY, "--objective", "EnergyPerToken"]) == 2
    assert "EnergyPerToken needs measured watts" in capsys.readouterr().err
