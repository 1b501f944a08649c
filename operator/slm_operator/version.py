"""Versions as images and API servers write them, as numbers that can be compared."""

from __future__ import annotations

import re

_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?![\d.])")

Version = tuple[int, int, int]


def version_of(text: str) -> Version | None:
    """Numbers of a version at the start of a text: v0.20.0-ubi9, 1.34.2+k3s1. None when it does not begin with one."""
    found = _VERSION.match(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3] or 0))


def version_of_image(image: str) -> Version | None:
    """Of an image's tag. None without one, as where the image is named by digest, and where it is no version."""
    return version_of(_tag(image))


def dotted(version: tuple[int, ...]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def _tag(image: str) -> str:
    """What follows the colon of the last part: a registry may have a port, a digest is no tag."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]
