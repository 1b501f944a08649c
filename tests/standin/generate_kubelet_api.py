"""Regenerates `kubelet_api/` from the kubelet's own .proto files: `.venv/bin/python tests/standin/generate_kubelet_api.py`.

The files come from the Go module `k8s.io/kubelet` at the version of the cluster that the tests run.
NB: both are called `api.proto` upstream. Protobuf knows a file by its name, one pool per process, so each gets a name of its own.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from grpc_tools import protoc

MODULE = "k8s.io/kubelet@v0.35.4"
PROTOS = {
    "deviceplugin_v1beta1": "pkg/apis/deviceplugin/v1beta1/api.proto",
    "podresources_v1": "pkg/apis/podresources/v1/api.proto",
}
TARGET = Path(__file__).parent / "kubelet_api"


def module_folder() -> Path:
    """Where Go's module cache holds the kubelet's API, downloaded if need be."""
    with tempfile.TemporaryDirectory() as outside_any_module:
        reported = subprocess.run(
            ["go", "mod", "download", "-json", MODULE], cwd=outside_any_module, check=True, capture_output=True
        )
    return Path(json.loads(reported.stdout)["Dir"])


def generate() -> None:
    """Write the message and service stubs, with imports relative to their package."""
    source = module_folder()
    with tempfile.TemporaryDirectory() as folder:
        for name, path in PROTOS.items():
            (Path(folder) / f"{name}.proto").write_text((source / path).read_text())
        arguments = ["protoc", f"-I{folder}", f"--python_out={TARGET}", f"--grpc_python_out={TARGET}"]
        if protoc.main([*arguments, *(f"{folder}/{name}.proto" for name in PROTOS)]) != 0:
            raise SystemExit(f"protoc refused the .proto files of {MODULE}")
    for stub in TARGET.glob("*_pb2_grpc.py"):
        stub.write_text(re.sub(r"^import (\w+_pb2)", r"from . import \1", stub.read_text(), flags=re.MULTILINE))


if __name__ == "__main__":
    generate()
