"""Labels of nodes follow NodeFeature objects, and go with them."""

from typing import Any

from tests.standin.nfd_master import ANNOTATION, NODE_NAME_LABEL, changed, patch


def feature(node: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": {NODE_NAME_LABEL: node}}, "spec": {"labels": labels}}


def test_a_node_keeps_what_the_annotation_does_not_name() -> None:
    assert patch({"a": "2", "b": "1"}, "a,gone") == {
        "metadata": {"labels": {"a": "2", "b": "1", "gone": None}, "annotations": {ANNOTATION: "a,b"}}
    }


def test_all_labels_go_with_the_object() -> None:
    assert patch({}, "a,b") == {"metadata": {"labels": {"a": None, "b": None}, "annotations": {ANNOTATION: None}}}


def test_only_nodes_of_changed_objects_are_labelled() -> None:
    one, other = feature("n1", a="1"), feature("n2", a="1")
    seen = [
        {"f1": one, "f2": other},
        {"f1": one, "f2": other},
        {"f1": feature("n1", a="2"), "f2": other},
        {"f2": other},
    ]
    assert list(changed(iter(seen))) == [("n1", {"a": "1"}), ("n2", {"a": "1"}), ("n1", {"a": "2"}), ("n1", {})]
