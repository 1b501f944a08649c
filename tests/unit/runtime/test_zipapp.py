import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from slm_core.failure import EXIT_STATUS, Failure
from slm_core.pack_pod import read_termination

ROOT = Path(__file__).parents[3]
_spec = importlib.util.spec_from_file_location("zipapp_builder", ROOT / "hack" / "zipapp.py")
assert _spec is not None
assert _spec.loader is not None
builder = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(builder)


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    assert builder.build(tmp_path / "a.pyz").read_bytes() == builder.build(tmp_path / "b" / "b.pyz").read_bytes()


def test_it_runs_by_itself_and_brings_pynvml(tmp_path: Path) -> None:
    built = builder.build(tmp_path / "slm_runtime.pyz")
    assert "pynvml.py" in zipfile.ZipFile(built).namelist()
    done = subprocess.run(
        [sys.executable, str(built), "profile", "--model", "/no/such/model"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (10, "")
    assert '"class":"ModelUnusable"' in done.stdout


def test_it_serves_too(tmp_path: Path) -> None:
    words = ("serve", "--model", "/no/such/model", "--batch-size", "8", "--device", "cpu")
    built = builder.build(tmp_path / "slm_runtime.pyz")
    done = subprocess.run([sys.executable, str(built), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 10
    assert "--model /no/such/model: no such folder" in done.stderr


WITHOUT_AIOHTTP = (
    "import sys, runpy; sys.modules['aiohttp'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
)
OF_OLD = "import sys, runpy; sys.version_info = (3, 9, 18); runpy.run_path(sys.argv.pop(1), run_name='__main__')"
MODEL = ("--model", "/no/such/model")


@pytest.mark.parametrize(("begins", "lacks"), [(WITHOUT_AIOHTTP, "aiohttp"), (OF_OLD, "Python 3.11 or newer")])
def test_a_pack_says_what_its_image_lacks(tmp_path: Path, begins: str, lacks: str) -> None:
    built, word = builder.build(tmp_path / "slm_runtime.pyz"), tmp_path / "word"
    words = (str(built), "serve", *MODEL, "--termination-message-file", str(word))
    done = subprocess.run([sys.executable, "-c", begins, *words], capture_output=True, text=True, check=False)
    said = read_termination(word.read_text())
    assert said is not None
    assert (said.reason, done.returncode) == (Failure.COMMAND, EXIT_STATUS[Failure.COMMAND])
    assert f"lacks {lacks}" in said.message
    assert "spec.engine.image" in said.remedy
    assert said.message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_profile_says_what_its_image_lacks(tmp_path: Path) -> None:
    words = (str(builder.build(tmp_path / "slm_runtime.pyz")), "profile", *MODEL)
    done = subprocess.run([sys.executable, "-c", WITHOUT_AIOHTTP, *words], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert (said["event"], said["class"], said["exitStatus"]) == ("failed", "EngineCommandUnusable", done.returncode)
    assert "aiohttp" in said["message"]
    assert said["remedy"]
