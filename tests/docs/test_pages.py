"""Pages point at what exists, and name what the code says."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from slm_core.failure import Failure
from slm_operator.api.reasons import Reason
from slm_operator.cli.inputs.admission.former_names import RENAMED
from slm_operator.slo.judge import Drift

from tests.docs.pages import PAGES, ROOT, broken_links

MOST_PICTURE_BYTES = 300_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_no_file_or_heading_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A `flag`, and why\n\n```console\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#a-flag-and-why) [b](other.md#no-heading) [c](gone.md) [d](#here) [e](other.md)")
    assert broken_links(page) == ["other.md#no-heading", "gone.md", "#here"]


def test_every_picture_is_small_and_shown() -> None:
    pictures = sorted((ROOT / "docs/images").iterdir())
    shown = "".join(page.read_text() for page in PAGES)
    assert [path.name for path in pictures if f"images/{path.name})" not in shown] == []
    assert [path.name for path in pictures if path.stat().st_size > MOST_PICTURE_BYTES] == []


def test_pages_that_files_name_exist() -> None:
    """In messages, descriptions and comments: what a user is sent to must be there."""
    named = [
        (str(path.relative_to(ROOT)), name)
        for path in texts()
        for name in re.findall(r"(?<![\w/.-])docs/[\w/-]++(?:\.[a-z]+)?+(?!\*)", path.read_text())
    ]
    assert len(named) > 50
    assert [(path, name) for path, name in named if not (ROOT / name).exists()] == []


def texts() -> list[Path]:
    rooms = (
        *("operator", "core", "runtime", "charts", "crds", "config"),
        *("examples", "hack", "images", "tests", "benchmarks"),
    )
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.is_file()]
    return [path for path in files if path.suffix in {".py", ".md", ".yaml", ".json", ".txt", ".tpl"}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    """A test that guards a statement goes with the statement. Decisions tell of their own day."""
    named = re.findall(
        r"`((?:tests|benchmarks|hack|docs|operator|runtime|examples)/[\w/-]+\.[a-z]+)`", page.read_text()
    )
    if page.parent.name != "adr":
        assert [name for name in named if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_once_and_have_their_parts() -> None:
    pages = sorted((ROOT / "docs/adr").glob("*.md"))
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers)
    for page in pages:
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:4])}. ")
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Rejected", "Consequences")), page.name


def literal_reasons() -> Iterator[str]:
    """Every reason of a condition or event that planning code spells instead of naming it."""
    known = {reason.value for reason in Reason}
    for path in (ROOT / "operator/slm_operator/planning").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            given = {word.arg: word.value for word in node.keywords} if isinstance(node, ast.Call) else {}
            value = given.get("reason")
            if isinstance(value, ast.Constant | ast.JoinedStr):
                yield f"{path.name}:{node.lineno}"
            elements = node.elts[:1] if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) else []
            yield from (
                f"{path.name}:{one.lineno}" for one in elements if isinstance(one, ast.Constant) and one.value in known
            )


def test_a_reason_is_named_and_never_spelt() -> None:
    assert list(literal_reasons()) == []


def test_every_judgement_of_the_promise_is_a_reason() -> None:
    assert {drift.value for drift in Drift} <= {reason.value for reason in Reason}


def test_every_failure_of_measuring_is_in_troubleshooting() -> None:
    reported = set(re.findall(r"`([A-Z][A-Za-z]+)`", (ROOT / "docs/how-to/troubleshooting.md").read_text()))
    assert {failure.value for failure in Failure} <= reported


def test_every_former_name_of_the_api_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    former = [old.removeprefix("spec.") for old in RENAMED if not old.startswith("spec.search.")]
    assert [name for name in former if not re.search(rf"`{re.escape(name)}\b", text)] == []


def test_every_rule_of_the_chart_is_explained_in_security() -> None:
    text = (ROOT / "docs/reference/security.md").read_text()
    for found in yaml.safe_load_all((ROOT / "config/default/operator.yaml").read_text()):
        aggregated = found["metadata"].get("labels", {})
        if found["kind"] not in {"Role", "ClusterRole"} or any("aggregate-to" in label for label in aggregated):
            continue
        for rule in found["rules"]:
            for resource in rule["resources"]:
                row = next(
                    (line for line in text.splitlines() if line.startswith("|") and f"`{resource}`" in line), None
                )
                assert row is not None, resource
                assert all(verb in row for verb in rule["verbs"]), (row, rule)
