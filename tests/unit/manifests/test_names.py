"""Names of what the operator makes: each valid where it is used, and never one for two."""

import re
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from slm_operator.api.base import LABEL, SUBDOMAIN
from slm_operator.manifests.metadata import child_name, dns_label, is_served_in, label_value, serves_value
from slm_operator.manifests.profile import profile_name
from slm_operator.watch.records import Key

from tests import builders as build

DERIVED: dict[str, Callable[[str], str]] = {"dns label": dns_label, "value of a label": label_value}
VALID = {"dns label": LABEL, "value of a label": r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"}
LONG = "x" * 60
NASTY = (
    "a-b",
    "a.b",
    "a.b.c",
    "a-b.c",
    "a.b-c",
    "a-b-c",
    "qwen2.5-x",
    "qwen2-5-x",
    f"{LONG}-ab",
    f"{LONG}.ab",
    f"{LONG}-abc",
    f"{LONG}.abc",
    f"{LONG}-abd",
    f"{LONG}---a",
    f"{LONG}---b",
    "x" * 253,
    ".".join("x" * 126),
    "4b-chat",
    "chat-1764424900",
)
NAMES = st.one_of(
    st.text("ab.-", min_size=1, max_size=6),
    st.text("a.-", min_size=58, max_size=70),
    st.sampled_from(NASTY),
).filter(lambda name: re.fullmatch(SUBDOMAIN, name) is not None)


@pytest.mark.parametrize("kind", DERIVED)
def test_derived_names_do_not_collide(kind: str) -> None:
    of = DERIVED[kind]
    for one, other in combinations({*NASTY, *map(of, NASTY)}, 2):
        assert of(one) != of(other), (one, other)


FEW = settings(max_examples=30)
"""Of each kind of name: the nasty ones are in a table."""


@pytest.mark.parametrize("kind", DERIVED)
@FEW
@given(one=NAMES, other=NAMES)
def test_derived_names_never_collide(kind: str, one: str, other: str) -> None:
    of = DERIVED[kind]
    assume(one != other)
    assert of(one) != of(other)
    if of(one) != one:
        assert of(of(one)) != of(one), "another object may have the name that was made"


@pytest.mark.parametrize("kind", DERIVED)
@FEW
@given(name=NAMES)
def test_a_derived_name_is_valid_and_a_good_one_is_kept(kind: str, name: str) -> None:
    made = DERIVED[kind](name)
    assert len(made) <= 63
    assert re.fullmatch(VALID[kind], made)
    if len(name) <= 63 and re.fullmatch(VALID[kind], name):
        assert made == name


@FEW
@given(name=NAMES)
def test_a_name_that_is_changed_stays_readable(name: str) -> None:
    assert child_name(Key("team", name))[:51].startswith(name.replace(".", "-")[:51].rstrip("-"))


@FEW
@given(name=NAMES)
def test_a_node_that_serves_tells_the_namespace(name: str) -> None:
    assert is_served_in(serves_value(Key("team-a", name)), "team-a")
    assert not is_served_in(serves_value(Key("team-a", name)), "team")


@pytest.mark.parametrize(
    "uri", ["hf://org/Qwen2.5_3B", "/models/水.äß", "pvc://claim", f"pvc://claim/{'x' * 200}", "/."]
)
def test_the_profile_of_any_model_has_a_valid_name(uri: str) -> None:
    spec = build.deployment(spec={"model": {"uri": uri}}).spec
    assert spec is not None
    assert re.fullmatch(LABEL, profile_name(spec))
    assert len(profile_name(spec)) <= 63 - len("-abcd")
