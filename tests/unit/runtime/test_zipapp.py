import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

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
