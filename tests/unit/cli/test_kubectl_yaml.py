"""YAML is read and written as kubectl reads it. tests/control_plane/test_admission.py asks kubectl."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from slm_operator.cli.errors import Refused
from slm_operator.cli.inputs.admission.structure import as_sent
from slm_operator.cli.inputs.kubectl_yaml import Dumper, Loader
from slm_operator.cli.inputs.manifests import deployment
from unit.cli.admission_cases import SCALARS

if TYPE_CHECKING:
    from pathlib import Path


def test_yaml_has_the_scalars_of_kubectl() -> None:
    text = "\n".join(f"- {written}" for written in SCALARS)
    assert as_sent(yaml.load(text, Loader)) == list(SCALARS.values())


def test_yaml_that_is_written_is_read_the_same_by_both_readers() -> None:
    texts = [*SCALARS, *map(str, SCALARS.values()), "12e4", "a: b", "- a"]
    written = yaml.dump(texts + list(SCALARS.values()), Dumper=Dumper)
    for reader in (Loader, yaml.SafeLoader):
        assert yaml.load(written, reader) == texts + list(SCALARS.values())


@pytest.mark.parametrize("text", ["!!set {a}", "!!binary aGk=", "!!python/object:a.B {}", "{[1]: a}"])
def test_yaml_that_json_cannot_say_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "slmd.yaml").write_text(f"a: {text}")
    with pytest.raises(Refused, match="neither JSON nor YAML"):
        deployment(str(tmp_path / "slmd.yaml"))
