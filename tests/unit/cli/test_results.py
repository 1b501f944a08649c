"""Commands that take what other benchmarks wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from slm_operator.cli.main import main
from unit.cli.golden import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from unit.cli.api_server import ApiServer

RESULTS = ROOT / "tests/data/results"
SWEEP = [word for name in ("c1", "c16", "c32", "rate") for word in ("-f", str(RESULTS / f"vllm-bench-{name}.json"))]


def test_advise_decides_from_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["advise", *SWEEP, "--itl-ms", "11", "-o", "json"]) == 0
    out, err = capsys.readouterr()
    answer = json.loads(out)
    assert (answer["configuration"]["batchSize"], answer["configuration"]["kvCacheBytes"]) == (16, None)
    (said,) = err.splitlines()
    assert "vllm-bench-rate.json: left out: it was sent at a rate" in said


@pytest.mark.parametrize(("opens", "between", "ends"), [("", "\n", "\n"), ("[", ",", "]")], ids=["lines", "a list"])
def test_advise_reads_several_runs_of_one_file(
    opens: str, between: str, ends: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `--append-result` writes them, and `vllm bench sweep`."""
    runs = [json.dumps(json.loads((RESULTS / f"vllm-bench-{name}.json").read_text())) for name in ("c1", "c16", "c32")]
    (tmp_path / "all.json").write_text(opens + between.join(runs) + ends)
    assert main(["advise", "-f", str(tmp_path / "all.json"), "--itl-ms", "30", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["configuration"]["batchSize"] == 32


@pytest.mark.parametrize("sign", ["\u2028", "\x85"], ids=ascii)
def test_unicode_line_break_ends_no_run_of_a_file(
    sign: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [json.loads((RESULTS / f"vllm-bench-{name}.json").read_text()) for name in ("c1", "c16", "c32")]
    lines = [json.dumps(run | {"note": f"a{sign}b"}, ensure_ascii=False) for run in runs]
    (tmp_path / "all.json").write_text("\n".join(lines), encoding="utf-8")
    assert main(["advise", "-f", str(tmp_path / "all.json"), "--itl-ms", "30", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["configuration"]["batchSize"] == 32


def test_a_profile_is_imported_with_what_no_client_sees(server: ApiServer) -> None:
    about = ["--name", "opt", "--model", "hf://facebook/opt-125m", "--gpu", "NVIDIA-L4"]
    assert main(["profile", "import", *SWEEP, *about]) == 0
    (created,) = server.created
    spec = created["spec"]
    assert (spec["model"], spec["gpu"]) == ({"uri": "hf://facebook/opt-125m"}, {"product": "NVIDIA-L4"})
    assert spec["workload"] == {"inputTokens": 162, "outputTokens": 48}
    assert [point["batchSize"] for point in spec["measurements"]["points"]] == [1, 16, 32]
    assert "ledger" not in spec["measurements"]


REFUSED: dict[str, tuple[list[str], str]] = {
    "no name": (["profile", "import", *SWEEP, "--model", "hf://a/b", "--gpu", "L4"], "give --name"),
    "nothing said": (["profile", "import", *SWEEP], "neither model nor GPU: give --name and --model and --gpu"),
    "a document's model": (
        ["profile", "import", "-f", "{document}", "--model", "hf://a/b"],
        "names its own model and GPU",
    ),
    "a document beside runs": (["advise", *SWEEP, "-f", "{document}"], "as others here are: give it alone"),
    "two documents": (["advise", "-f", "{document}", "-f", "{document}"], "measurements of 2 profiles"),
    "no full run": (["advise", "-f", str(RESULTS / "vllm-bench-rate.json")], "run it again with a concurrency"),
    "no B = 1": (["advise", "-f", str(RESULTS / "aiperf.json"), "--itl-ms", "20"], "measure B=1 too"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, sentence = REFUSED[case]
    (tmp_path / "document.json").write_text(json.dumps({"schema": "slm-operator.io/measurements/v1"}))
    assert main([word.format(document=tmp_path / "document.json") for word in words]) == 2
    assert sentence in capsys.readouterr().err
