"""Files that a command writes are their user's alone, and never in place of another by accident."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from slm_operator.cli.errors import Refused
from slm_operator.cli.support import private_file


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    private_file.write(path, b"secret", force=False)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"secret", 0o600)


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"mine")
    with pytest.raises(Refused, match="there is such a file: give another name, or --force"):
        private_file.write(path, b"secret", force=False)
    assert path.read_bytes() == b"mine"


def test_with_force_it_is_replaced_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"mine, and longer")
    path.chmod(0o644)
    private_file.write(path, b"secret", force=True)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"secret", 0o600)


def test_a_device_is_written_to_as_it_is() -> None:
    private_file.write(Path(os.devnull), b"secret", force=False)
    assert stat.S_IMODE(Path(os.devnull).stat().st_mode) == 0o666


def test_a_link_at_its_place_is_not_followed(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "a"
    path.symlink_to(other)
    with pytest.raises(Refused):
        private_file.write(path, b"secret", force=False)
    assert not other.exists()
