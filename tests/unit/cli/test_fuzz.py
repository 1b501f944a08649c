"""Whatever a file holds, a command answers or refuses: no traceback, no hang, no half-written report."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slm_core.codec import to_json
from slm_operator.cli.inputs.files import from_csv
from slm_operator.cli.main import main
from unit.cli.golden import DATA, ROOT

if TYPE_CHECKING:
    from pathlib import Path

SWEEP = (ROOT / DATA / "batch_sweep.csv").read_text()
DOCUMENT = to_json(
    from_csv(str(ROOT / DATA / "batch_sweep.csv"), str(ROOT / DATA / "replication.csv"), "opt-1.3b", None)
)
FEW = DOCUMENT | {"points": DOCUMENT["points"][:6] + DOCUMENT["points"][-3:]}

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**400, -1, 0, 1 << 63, 1e308, 5e-324, float("nan"), float("inf"), "", "1", "\x00", [], {}, [[]]]
    ),
    st.floats(),
    st.text(max_size=20),
    st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [at, *(p for key, inner in value.items() for p in paths(inner, (*at, key)))]
    if isinstance(value, list):
        return [at, *(p for i, inner in enumerate(value) for p in paths(inner, (*at, i)))]
    return [at]


PATHS = paths(FEW)[1:]
CHANGES = st.lists(st.tuples(st.sampled_from(PATHS), HOSTILE, st.booleans()), min_size=1, max_size=4)


def changed(changes: list[tuple[tuple[Any, ...], Any, bool]]) -> Any:
    raw = copy.deepcopy(FEW)
    for path, value, remove in changes:
        holder = raw
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for step in path[:-1]:
                holder = holder[step]
            if remove:
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
    return raw


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


def answered_or_refused(code: int, out: str, err: str) -> None:
    assert code in (0, 2)
    assert bool(out) == (code == 0)
    assert bool(err) == (code == 2)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES)
def test_changed_documents(tmp_path: Path, changes: list[tuple[tuple[Any, ...], Any, bool]]) -> None:
    (tmp_path / "d.json").write_text(json.dumps(changed(changes)))
    code, out, err = run("advise", "-f", str(tmp_path / "d.json"), "-o", "json")
    answered_or_refused(code, out, err)
    written = tmp_path / "r.html"
    written.unlink(missing_ok=True)
    reported, _, _ = run("report", "-f", str(tmp_path / "d.json"), "-o", str(written))
    assert reported == code
    assert written.exists() == (code == 0)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_file_at_all(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    assert run("advise", "-f", str(path))[0] == 2
    assert run("advise", "--from-csv", str(path))[0] == 2
    assert run("plan", "-f", str(path))[0] == 2


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 15),
    st.integers(0, 14),
    st.sampled_from(["", "nan", "-1", "1e400", "0", "x", "1.5", "9" * 500, "٣", '"']),
)
def test_changed_rows(tmp_path: Path, row: int, column: int, cell: str) -> None:
    lines = SWEEP.splitlines()
    cells = lines[row].split(",")
    cells[column] = cell
    lines[row] = ",".join(cells)
    (tmp_path / "s.csv").write_text("\n".join(lines))
    answered_or_refused(*run("advise", "--from-csv", str(tmp_path / "s.csv"), "--model", "opt-1.3b", "-o", "json"))


def test_nesting_deeper_than_the_interpreter(tmp_path: Path) -> None:
    for name in ("deep.json", "deep.yaml"):
        (tmp_path / name).write_text("[" * 200_000)
        assert run("advise", "-f", str(tmp_path / name))[0] == 2


def test_yaml_that_would_unfold_to_gigabytes(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join([*lines, "schema: *a11"]))
    (tmp_path / "loop.yaml").write_text("schema: &a [*a]")
    for name in ("bomb.yaml", "loop.yaml"):
        code, _, err = run("advise", "-f", str(tmp_path / name))
        assert code == 2
        assert "unfold to more than 1,000,000 values" in err
