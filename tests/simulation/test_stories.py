"""The common stories: the same for ever, and played to the end however often the operator is killed."""

import pytest

from .stories import GOLDEN, STORIES, narrative, play


@pytest.mark.parametrize("story", STORIES)
def test_the_story_is_as_before(story: str) -> None:
    assert (GOLDEN / f"{story}.txt").read_text() == narrative(story), "run `make generate` and review the difference"


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_killed_after_each_of_its_effects_it_ends_all_the_same(story: str) -> None:
    effects = play(story).operator.effects
    assert effects >= 5  # a pack in a pod changes no node
    for after in range(1, effects + 1):
        made = play(story, kill_after=after)
        assert made.operator.kills == 1
