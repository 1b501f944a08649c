"""`slm-operator run` with a file that it cannot use: one sentence that names the file, the key and the remedy, and exit code 2."""

from pathlib import Path

import pytest
from slm_operator.main import main

SETTINGS = {
    "misspelt": ("profilng: {}", "profilng: Extra inputs are not permitted"),
    "misspelt-inside": ("nodes: {maxChangng: 1}", "nodes.maxChangng: Extra inputs"),
    "no-number": ("nodes: {maxChanging: many}", "nodes.maxChanging: Input should be a valid integer"),
    "a-list": ("[1, 2]", "no settings: a-list.yaml is not a mapping"),
    "broken": ("a: [", "no settings: broken.yaml: "),
    "binary": (b"\xff\xfe", "no settings: "),
    "absent": (None, "No such file or directory: give a file that can be read"),
}


def refusal(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.argv", ["slm-operator", "run", *arguments])
    # NB: it would take the place of pytest's handlers, and write to this test's stderr long after the test.
    monkeypatch.setattr("slm_operator.main.start_logging", lambda **_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, because = SETTINGS[name]
    file = tmp_path / f"{name}.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refusal(f"--config={file}", monkeypatch=monkeypatch, capsys=capsys)
    assert said.startswith(f"slm-operator: {file}: {because}")
    assert said.count("\n") == 1


def test_a_kubeconfig_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal("--kubeconfig=nowhere", monkeypatch=monkeypatch, capsys=capsys)
    assert said.endswith("argument --kubeconfig: there is no file nowhere\n")
