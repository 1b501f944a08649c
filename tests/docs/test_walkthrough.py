"""A page that lacks a step of the walk-through, or a word that nobody replaces, is found before anybody follows it."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT
from tests.docs.walkthrough import AIR_GAP, STEPS, PageError, Step, commands, filled

TWO = (Step("install", "a.md"), Step("upgrade", "a.md"))
PAGE = """# A page

<!-- step: install -->
```console
helm install x \\
  --wait   # until it runs
```

Text.

```console
never followed
```

<!-- step: upgrade -->
```console
helm upgrade x
```
"""
VALUES = {"REGISTRY": "localhost:1", "VERSION": "0.1.0", "GPU-NODE": "node"}


def walked(page: str) -> dict[str, str]:
    return {step.name: text for step, text in commands(lambda _: page, TWO).items()}


@pytest.mark.parametrize("steps", [STEPS, AIR_GAP], ids=["walk-through", "air gap"])
def test_our_pages_have_every_step_in_order(steps: tuple[Step, ...]) -> None:
    found = commands(lambda page: (ROOT / page).read_text(), steps)
    assert tuple(found) == steps
    known = dict.fromkeys(("REGISTRY", "RELEASES", "VERSION", "NEWER", "GPU-NODE", "MIRROR", "USER"), "x")
    assert all(filled(text, known) for text in found.values())


def test_only_marked_blocks_are_followed_and_as_they_stand() -> None:
    assert walked(PAGE) == {
        "install": "helm install x \\\n  --wait   # until it runs\n",
        "upgrade": "helm upgrade x\n",
    }


@pytest.mark.parametrize("step", ["install", "upgrade"])
def test_a_page_that_lacks_a_step_is_named_with_it(step: str) -> None:
    with pytest.raises(PageError, match=rf"a\.md has no step {step}: put <!-- step: {step} -->"):
        walked(PAGE.replace(f"<!-- step: {step} -->\n", ""))


def test_a_step_that_nobody_follows_is_found() -> None:
    with pytest.raises(
        PageError, match="has the steps install, upgrade, more, and they are followed as install, upgrade"
    ):
        walked(f"{PAGE}\n<!-- step: more -->\n```console\nx\n```\n")


def test_a_step_that_stands_twice_is_found() -> None:
    with pytest.raises(PageError, match="has the steps install, upgrade, upgrade"):
        walked(PAGE + PAGE[PAGE.index("<!-- step: upgrade") :])


def test_steps_in_another_order_are_found() -> None:
    swapped = PAGE.replace("install -->", "x -->").replace("upgrade -->", "install -->").replace("x -->", "upgrade -->")
    with pytest.raises(PageError, match="has the steps upgrade, install"):
        walked(swapped)


@pytest.mark.parametrize("below", ["\n```console\nx\n```\n", "```yaml\nx: 1\n```\n", "```console gpu\nx\n```\n", ""])
def test_a_mark_without_commands_right_below_it_is_found(below: str) -> None:
    with pytest.raises(PageError, match="below step upgrade is no block of commands"):
        walked(PAGE[: PAGE.index("```console\nhelm upgrade")] + below)


def test_words_in_capitals_are_what_a_reader_replaces() -> None:
    text = "helm install oci://REGISTRY/x --version VERSION && curl v/vVERSION GPU-NODE -H 'Content-Type: x'"
    assert (
        filled(text, VALUES)
        == "helm install oci://localhost:1/x --version 0.1.0 && curl v/v0.1.0 node -H 'Content-Type: x'"
    )


def test_a_word_that_nobody_knows_is_named() -> None:
    with pytest.raises(PageError, match="in place of YOUR-CONFIG"):
        filled("helm install --set a=YOUR-CONFIG", VALUES)
