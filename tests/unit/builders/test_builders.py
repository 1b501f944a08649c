"""What is built beside its raw object, and not from it, is what the watch would have made of that."""

import pytest
from slm_operator.watch import custom_resources

from tests import builders as build


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("imported", [False, True])
def test_a_profile_with_figures_is_as_the_watch_reads_it(*, imported: bool, ours: bool) -> None:
    of = build.deployment()
    raw = build.raw_profile(of, build.imported(), imported=imported, ours=ours)
    assert build.profile(of, build.imported(), imported=imported, ours=ours) == custom_resources.profile(raw)
