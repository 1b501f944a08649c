"""Bad input: a sentence that names the field and the remedy, exit code 2, never a traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from slm_core.codec import to_json
from slm_operator.cli.inputs.files import from_csv
from slm_operator.cli.main import main
from unit.cli.golden import DATA, ROOT

SWEEP = str(ROOT / DATA / "batch_sweep.csv")
PACKS = str(ROOT / DATA / "replication.csv")
HEADER = Path(SWEEP).read_text().splitlines()[0]


def document(**changes: object) -> dict:
    return to_json(from_csv(SWEEP, None, "opt-1.3b", None)) | changes


def with_point(index: int, **changes: object) -> dict:
    raw = document()
    raw["points"][index] |= changes
    return raw


FILES: dict[str, object] = {
    "empty.csv": "",
    "wrong-columns.csv": "batch,tps\n1,2\n",
    "no-rows.csv": HEADER + "\n",
    "nan.csv": f"{HEADER}\nm,1,1,10,1,10,10,nan,10,3,4,1,0.1,0,1,100\n",
    "text.csv": f"{HEADER}\nm,1,1,10,1,10,10,fast,10,3,4,1,0.1,0,1,100\n",
    "negative.csv": f"{HEADER}\nm,1,1,10,1,10,10,-4,10,3,4,1,0.1,0,1,100\n",
    "short-row.csv": f"{HEADER}\nm,1,1\n",
    "binary.csv": b"\xff\xfe\x00\x01",
    "empty.yaml": "",
    "list.yaml": "- 1\n- 2\n",
    "broken.yaml": "a: [1, 2\nb: {",
    "alias-bomb.yaml": "a: &a [x]\nb: *c\n",
    "broken.json": '{"schema": ',
    "other-kind.yaml": "apiVersion: v1\nkind: Pod\nspec: {}\n",
    "unmeasured-profile.yaml": "apiVersion: slm-operator.io/v1alpha1\nkind: SLMProfile\nspec: {model: {uri: hf://a/b}}\n",
    "future.json": document(schema="slm-operator.io/measurements/v9"),
    "no-schema.json": {"points": []},
    "no-points.json": document(points=[]),
    "unknown-field.json": document(flavour="sweet"),
    "missing-field.json": {k: v for k, v in document().items() if k != "gpu"},
    "nan.json": json.dumps(with_point(2, throughputTokensPerSecond=float("nan"))),
    "negative.json": with_point(2, kvPeakFraction=-0.1),
    "text.json": with_point(2, kvPeakFraction="half"),
    "thousand.json": with_point(2, itlMs={"meanMs": 0.0039}),
    "contradictory.json": with_point(7, throughputTokensPerSecond=99_000, outputTokensPerSecond=60_000),
    "without-one.json": document(points=document()["points"][1:]),
    "two.yaml": f"{json.dumps(document())}\n---\n{json.dumps(document())}\n",
}

CASES: list[tuple[str, list[str], str]] = [
    # What is wrong, arguments after `advise`, what the sentence must name.
    ("missing file", ["--from-csv", "absent.csv"], "absent.csv: No such file"),
    ("directory", ["-f", "."], "Is a directory"),
    ("empty CSV", ["--from-csv", "empty.csv"], "no column model"),
    ("wrong columns", ["--from-csv", "wrong-columns.csv", "--model", "m"], "max_num_seqs"),
    ("CSV without rows", ["--from-csv", "no-rows.csv"], "0 models"),
    ("CSV without rows, a model named", ["--from-csv", "no-rows.csv", "--model", "m"], "no row of model 'm'"),
    ("NaN in a CSV", ["--from-csv", "nan.csv"], "nan.csv line 2, total_tokens_per_s"),
    ("text in a CSV", ["--from-csv", "text.csv"], "'fast' is not a finite number"),
    ("negative in a CSV", ["--from-csv", "negative.csv"], "at least 0"),
    ("short row in a CSV", ["--from-csv", "short-row.csv"], "short-row.csv line 2"),
    ("not text", ["--from-csv", "binary.csv"], "not text in UTF-8"),
    ("unknown model", ["--from-csv", SWEEP, "--model", "gpt"], "there are rows of opt-1.3b, opt-2.7b, llama-2-7b"),
    ("no model named", ["--from-csv", SWEEP], "name one with --model"),
    ("packs of another model", ["--from-csv", SWEEP, "--packs-csv", PACKS, "--model", "llama-2-7b"], "replication.csv"),
    ("model without CSV", ["-f", "future.json", "--model", "m"], "--model belongs to --from-csv"),
    ("packs without CSV", ["-f", "future.json", "--packs-csv", "x"], "--packs-csv belongs to --from-csv"),
    ("ledger without fields", ["--from-csv", SWEEP, "--model", "opt-1.3b", "--ledger", "no-schema.json"], "ledger.points: no such field"),
    ("empty ledger", ["--from-csv", SWEEP, "--model", "opt-1.3b", "--ledger", "empty.yaml"], "ledger: expected an object"),
    ("empty YAML", ["-f", "empty.yaml"], "no measurements in it"),
    ("list", ["-f", "list.yaml"], "no measurements in it"),
    ("broken YAML", ["-f", "broken.yaml"], "neither JSON nor YAML"),
    ("unknown alias", ["-f", "alias-bomb.yaml"], "neither JSON nor YAML"),
    ("broken JSON", ["-f", "broken.json"], "not JSON"),
    ("another kind", ["-f", "other-kind.yaml"], "SLMProfile with spec.measurements or status.measurements"),
    ("profile without measurements", ["-f", "unmeasured-profile.yaml"], "no measurements in it"),
    ("unknown version", ["-f", "future.json"], "schema: 'slm-operator.io/measurements/v9'"),
    ("no version", ["-f", "no-schema.json"], "schema: None"),
    ("no points", ["-f", "no-points.json"], "points"),
    ("unknown field", ["-f", "unknown-field.json"], "flavour: no such field"),
    ("missing field", ["-f", "missing-field.json"], "gpu: missing"),
    ("NaN", ["-f", "nan.json"], "points[2].throughputTokensPerSecond"),
    ("negative", ["-f", "negative.json"], "points[2].kvPeakFraction: -0.1"),
    ("text for a number", ["-f", "text.json"], "points[2].kvPeakFraction: expected float, found 'half'"),
    ("unit wrong by 1000", ["-f", "thousand.json"], "points[2].itlMs.meanMs"),
    ("T rising while Little's law fails", ["-f", "contradictory.json"], "points[7].outputTokensPerSecond: Little's law fails"),
    ("B = 1 absent", ["-f", "without-one.json"], "B=1"),
    ("two documents", ["-f", "two.yaml"], "measurements of 2 profiles"),
    ("no input", [], "--from-csv"),
    ("two inputs", ["-f", "a", "--from-csv", "b"], "not allowed with"),
    ("epsilon of 0", ["--from-csv", SWEEP, "--epsilon", "0"], "--epsilon/--min-efficiency: '0' is not a number above 0 and below 1"),
    ("epsilon of 1", ["--from-csv", SWEEP, "--epsilon", "1"], "below 1"),
    ("epsilon of 10", ["--from-csv", SWEEP, "--epsilon", "10"], "the published value is 0.1"),
    ("epsilon NaN", ["--from-csv", SWEEP, "--epsilon", "nan"], "'nan' is not a number"),
    ("epsilon a word", ["--from-csv", SWEEP, "--epsilon", "small"], "'small' is not a number"),
    ("negative gain", ["--from-csv", SWEEP, "--min-gain", "-1"], "--min-gain"),
    ("SLO of 0", ["--from-csv", SWEEP, "--itl-ms", "0"], "--itl-ms: '0' is not a number above 0"),
    ("infinite SLO", ["--from-csv", SWEEP, "--itl-ms", "inf"], "'inf' is not a number above 0"),
    ("both forms of SLO", ["--from-csv", SWEEP, "--itl-ms", "5", "--itl-factor", "2"], "not allowed with"),
    ("both forms of load", ["--from-csv", SWEEP, "--concurrency", "5", "--requests-per-second", "2"], "not allowed with"),
    ("half an engine", ["--from-csv", SWEEP, "--engines-per-gpu", "1.5"], "'1.5' is not a whole number from 1 to 48"),
    ("too many engines", ["--from-csv", SWEEP, "--engines-per-gpu", "49"], "from 1 to 48"),
    ("engines against mode", ["--from-csv", SWEEP, "--model", "opt-1.3b", "--engines-per-gpu", "2", "--mode", "Exclusive"], "enginesPerGpu"),
    ("unknown mode", ["--from-csv", SWEEP, "--mode", "MIG"], "--mode"),
    ("unknown output", ["--from-csv", SWEEP, "-o", "xml"], "--output"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for name, content in FILES.items():
        data = content if isinstance(content, (str, bytes)) else json.dumps(content)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


@pytest.mark.parametrize(("arguments", "sentence"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_refuses(
    arguments: list[str],
    sentence: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    try:
        code = main(["advise", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


def test_the_process_exits_with_2_and_one_sentence(folder: Path) -> None:
    command = "import sys; from slm_operator.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "advise", "-f", "future.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_a_report_that_cannot_be_written_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["report", "--from-csv", SWEEP, "--model", "opt-1.3b", "-o", "/proc/nowhere/report.html"]
    assert main(arguments) == 2
    assert "-o /proc/nowhere/report.html" in capsys.readouterr().err


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -c 'import sys; from slm_operator.cli.main import main; sys.exit(main())' advise --from-csv {shlex.quote(str(SWEEP))} --model opt-1.3b -o json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")
