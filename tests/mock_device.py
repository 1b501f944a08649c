"""A device of which only the outside is real: the mock NVML, the mock libcuda and the stand-in MPS in one folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
# An engine that takes memory of the mock device, and is a client of its MPS daemon where it has one.
CLIENT = """
[ -z "$MOCK_DEVICE" ] || echo $ENGINE_BYTES > "$MOCK_DEVICE/$$"
[ -z "$CUDA_MPS_PIPE_DIRECTORY" ] || echo 1 > "$CUDA_MPS_PIPE_DIRECTORY/client-$$"
echo "limits: ${CUDA_MPS_PINNED_DEVICE_MEM_LIMIT-none} ${CUDA_MPS_ACTIVE_THREAD_PERCENTAGE-none}"
echo "folder: $TMPDIR"
exec "$@"
"""
LIGHT = (sys.executable, "-m", "light_engine")
CLIENT_COMMAND = ("sh", "-c", CLIENT, "engine", *LIGHT)


def mock_device(folder: Path) -> dict[str, str]:
    """Build them. Returns variables that put them in front of whatever is started with them."""
    for name, source in (("libcuda.so.1", "mock_cuda/cuda.c"), ("libnvidia-ml.so.1", "mock_nvml/nvml.c")):
        flags = ["-shared", "-fPIC", "-Wall", "-Werror"]
        subprocess.run(["gcc", *flags, "-o", str(folder / name), str(TESTS / source)], check=True)
    for program in TESTS.glob("mock_cuda/nvidia-*"):
        shutil.copy(program, folder)
    (folder / "device").mkdir()
    folder.chmod(0o755)
    (folder / "device").chmod(0o777)
    return {
        "LD_LIBRARY_PATH": str(folder),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "MOCK_DEVICE": str(folder / "device"),
        "MOCK_MPS_QUIT_SECONDS": "0.3",
    }
