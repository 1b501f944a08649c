"""How versions are read, of whatever writes them."""

import pytest
from slm_operator.version import Version, version_of, version_of_image

VERSIONS = [
    ("v0.20.0", (0, 20, 0)), ("0.17.4-ubi9", (0, 17, 4)), ("v1.34.2+k3s1", (1, 34, 2)), ("v1.33", (1, 33, 0)),
    ("1.2.3.4", None), ("latest", None), ("", None), ("test", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "version"), VERSIONS)
def test_version(text: str, version: Version | None) -> None:
    assert version_of(text) == version


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("nvcr.io/nvidia/k8s-device-plugin:v0.20.0", (0, 20, 0)),
        ("registry:5000/plugin", None),
        ("registry:5000/plugin:v0.18.1@sha256:abc", (0, 18, 1)),
        ("nvcr.io/nvidia/k8s-device-plugin@sha256:abc", None),
        ("", None),
    ],
)
def test_version_of_an_image_is_its_tags(image: str, version: Version | None) -> None:
    assert version_of_image(image) == version
