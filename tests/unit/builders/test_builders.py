"""What is built beside its raw object, and not from it, is what the watch would have made of that."""

from slm_operator.watch import custom_resources

from tests import builders as build


def test_an_imported_profile_is_as_the_watch_reads_it() -> None:
    of = build.deployment()
    read = custom_resources.profile(build.raw_profile(of, build.imported()))
    assert build.profile(of, build.imported()) == read
