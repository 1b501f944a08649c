"""`kubectl slm profile diff`: what differs in the subject, and point by point, with what chance explains."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from slm_core.codec import to_json
from slm_core.measurements import Engine, Gpu, Latency, Mark, Model, Workload
from slm_operator.cli.commands import profile_diff
from slm_operator.cli.inputs.differences import Other, Same, differences
from slm_operator.cli.main import main
from unit.cli.cluster_objects import DOCUMENT, PROFILE, PROFILE_NAME, TEAM

from tests.builders import document, point

if TYPE_CHECKING:
    from pathlib import Path

    from slm_core.measurements import Point
    from unit.cli.api_server import ApiServer

ONE = replace(point(32), throughput_ci_fraction=0.03, ttft_ms=Latency(mean_ms=100))
A = document(
    ONE,
    model=Model(uri="hf://a/b", revision="r1"),
    engine=Engine(version="0.30.0", image="vllm:v0.30.0", args=("--a", "1", "--b=2")),
    gpu=Gpu(product="NVIDIA-L4", memory_bytes=24 << 30),
    workload=Workload(source="fixed", input_tokens_mean=512, output_tokens_mean=128),
)


def times(one: Point, factor: float, **more: Any) -> Point:
    return replace(one, throughput_tokens_per_second=one.throughput_tokens_per_second * factor, **more)


def against(*points: Point) -> Any:
    return differences(A, replace(A, points=points))


def test_the_same_document_does_not_differ() -> None:
    found = differences(A, A)
    assert (found.subject, found.only_a, found.only_b) == ((), (), ())
    assert found.pairs[0].beyond_chance == ()


def test_diff_shows_each_measured_field() -> None:
    b = replace(
        A,
        model=replace(A.model, revision=None),
        engine=replace(A.engine, version="0.32.0", args=("--a", "3", "--b=2", "--c")),
        gpu=replace(A.gpu, product="NVIDIA-T4"),
        workload=replace(A.workload, input_tokens_mean=1024),
    )
    assert differences(A, b).subject == (
        Other(field="model.revision", a="r1", b=""),
        Other(field="engine.version", a="0.30.0", b="0.32.0"),
        Other(field="engine.args", a="--a 1", b="--a 3 --c"),
        Other(field="gpu.product", a="NVIDIA-L4", b="NVIDIA-T4"),
        Other(field="workload.inputTokensMean", a="512", b="1024"),
    )


def test_arguments_in_another_order_are_shown_whole() -> None:
    (other,) = differences(A, replace(A, engine=replace(A.engine, args=("--b=2", "--a", "1")))).subject
    assert (other.a, other.b) == ("--a 1 --b=2", "--b=2 --a 1")


@pytest.mark.parametrize(("factor", "beyond"), [(1.04, ()), (0.96, ()), (1.06, ("tok/s",)), (0.94, ("tok/s",))])
def test_a_change_within_both_intervals_is_chance(factor: float, beyond: tuple[str, ...]) -> None:
    (pair,) = against(times(ONE, factor)).pairs
    assert pair.throughput.fraction == pytest.approx(factor - 1)
    assert pair.chance_fraction == pytest.approx(0.0424, abs=1e-4)
    assert pair.beyond_chance == beyond


def test_without_an_interval_runs_differ_by_what_single_runs_do() -> None:
    (pair,) = against(times(ONE, 1.045, throughput_ci_fraction=None)).pairs
    assert pair.chance_fraction == pytest.approx(0.041)
    assert pair.beyond_chance == ("tok/s",)


def test_latencies_differ_too_and_only_ttft_is_not_judged() -> None:
    (pair,) = against(replace(ONE, itl_ms=Latency(mean_ms=ONE.itl_ms.mean_ms * 2), ttft_ms=Latency(mean_ms=300))).pairs
    assert pair.beyond_chance == ("ITL",)
    assert pair.ttft is not None
    assert pair.ttft.fraction == pytest.approx(2)


def test_a_change_from_zero_is_beyond_chance_and_no_fraction() -> None:
    (pair,) = differences(replace(A, points=(times(ONE, 0),)), A).pairs
    assert (pair.throughput.fraction, pair.beyond_chance) == (None, ("tok/s",))
    (same,) = differences(*2 * [replace(A, points=(times(ONE, 0),))]).pairs
    assert (same.throughput.fraction, same.beyond_chance) == (0, ())


def test_a_change_from_zero_is_null_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing, some = tmp_path / "0.json", tmp_path / "1.json"
    nothing.write_text(json.dumps(to_json(replace(A, points=(times(ONE, 0),)))))
    some.write_text(json.dumps(to_json(A)))
    assert main(["profile", "diff", str(nothing), str(some), "-o", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["points"]
    assert one["throughputTokensPerSecond"]["changeFraction"] is None
    assert main(["profile", "diff", str(nothing), str(some)]) == 0
    assert "+0.0%" not in capsys.readouterr().out.splitlines()[3].split("→")[1]


def test_a_ttft_that_one_of_them_did_not_see_is_absent() -> None:
    assert against(replace(ONE, ttft_ms=None)).pairs[0].ttft is None


def test_points_of_another_batch_or_load_are_not_compared() -> None:
    found = against(replace(ONE, batch_size=64), replace(ONE, in_flight=16))
    assert found.pairs == ()
    assert found.only_a == (Same.of(ONE),)
    assert [(one.batch_size, one.load) for one in found.only_b] == [(32, 16), (64, 64)]


def test_a_full_load_is_the_same_whether_it_is_named_or_not() -> None:
    assert len(against(replace(ONE, in_flight=32)).pairs) == 1


def test_diff_of_repeated_points_takes_the_confirmed_one() -> None:
    (pair,) = against(times(ONE, 2, confirmed=True), times(ONE, 3)).pairs
    assert pair.throughput.fraction == pytest.approx(1)


@pytest.mark.parametrize("more", [{"in_flight": 32}, {"max_num_batched_tokens": 2048}], ids=["load", "token budget"])
def test_diff_of_points_alike_takes_the_confirmed_one(more: dict[str, int]) -> None:
    (pair,) = against(times(ONE, 2, confirmed=True), times(ONE, 3, **more)).pairs
    assert pair.throughput.fraction == pytest.approx(1)


def test_a_marked_point_is_compared_and_doubted() -> None:
    assert against(replace(ONE, marks=(Mark.THROTTLED,))).pairs[0].is_doubted


def test_two_files_ask_no_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "before").write_text(json.dumps(to_json(A)))
    (tmp_path / "after.json").write_text(json.dumps(to_json(replace(A, points=(times(ONE, 1.1),)))))
    assert main(["profile", "diff", "before", "after.json"]) == 0
    reported = capsys.readouterr().out
    assert "the same model, engine, GPU and workload" in reported
    assert "+10.0%" in reported
    assert "tok/s" in reported


def test_a_profile_of_the_cluster_is_compared_with_a_file(
    server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = tmp_path / "later.json"
    later.write_text(json.dumps(to_json(replace(DOCUMENT, points=DOCUMENT.points[:2]))))
    assert main(["profile", "diff", PROFILE_NAME, str(later), "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["a"]) == ("slm-operator.io/differences/v1", PROFILE_NAME)
    assert len(answer["points"]) == 2
    assert answer["points"][0]["throughputTokensPerSecond"]["changeFraction"] == 0
    assert len(answer["onlyA"]) > 2
    assert [path for path in server.asked if "slmprofiles" in path] == [f"GET {TEAM}/slmprofiles/{PROFILE_NAME}"]


def test_a_file_name_with_escapes_is_shown_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "\x1b[31m.json").write_text(json.dumps(to_json(A)))
    (tmp_path / "none.json").write_text(json.dumps(to_json(replace(A, points=()))))
    for form in ("table", "json"):
        assert main(["profile", "diff", "./\x1b[31m.json", "none.json", "-o", form]) == 0
        reported = capsys.readouterr().out
        assert "\x1b" not in reported
        assert "x1b[31m" in reported


def test_a_stream_without_arrows_gets_them_escaped(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(to_json(A)))
    command = [
        sys.executable,
        "-c",
        "from slm_operator.cli.main import main; main()",
        "profile",
        "diff",
        "./a.json",
        "./a.json",
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2192" in done.stdout


def test_a_narrow_terminal_shows_each_verdict_and_no_ttft() -> None:
    out = Console(width=80, file=io.StringIO(), highlight=False)
    out.print(profile_diff.view("a", "b", against(times(ONE, 2)), with_ttft=False))
    reported = out.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in reported
    assert "tok/s" in reported.splitlines()[3]
    assert "TTFT needs 107 columns, or -o json." in reported


# what is wrong, A and B, the sentence
REFUSED: list[tuple[str, tuple[str, str], str]] = [
    ("no such file", ("./gone", "b"), "./gone: No such file"),
    ("too long for a file", ("x" * 300, PROFILE_NAME), "not found in namespace team"),
    ("no such profile", ("gone", PROFILE_NAME), 'slmprofiles.slm-operator.io "gone" not found'),
    ("nothing measured", ("new", PROFILE_NAME), "SLMProfile new holds no measurements yet"),
    ("both stdin", ("-", "-"), "stdin, which can be read once only"),
]


@pytest.mark.parametrize(("named", "sentence"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_diff_refuses(
    server: ApiServer, named: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"{TEAM}/slmprofiles/new"] = PROFILE | {"status": {"phase": "Running"}}
    assert main(["profile", "diff", *named]) == 2
    assert sentence in capsys.readouterr().err


def test_documents_without_a_common_point_say_so(
    server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(to_json(replace(A, points=(replace(ONE, batch_size=7),)))))
    assert main(["profile", "diff", PROFILE_NAME, str(other)]) == 0
    reported = capsys.readouterr().out
    assert "no point of the same batch, engines, mode and load is in both" in reported
    assert "B=7" in reported
