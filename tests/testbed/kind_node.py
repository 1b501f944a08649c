"""The image of a kind node, made on the spot for a private engine.

    Debian packages + the static files of kind's own base image + Go-built Kubernetes binaries
      + the control plane's images, preloaded under the names that kubeadm asks for

It assumes that `gotools` builds static binaries and that kind's Go module carries its base image's
files (`images/base/files`). Nothing is downloaded as a prebuilt binary, no image is pulled.
"""

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from pathlib import Path

from .docker_engine import DockerError, Engine
from .docker_images import DEBIAN, KEY_LABEL, ensure_base, has_key, key_of
from .gotools import TOOLS_DIR, binary, cache_dir, one_at_a_time, version

NODE_IMAGE_FILES = Path(__file__).with_name("node_image")
KIND_MODULE = "sigs.k8s.io/kind"  # the pinned one, whose entrypoint and units the node image takes
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NODE_BINARIES = ("kubeadm", "kubelet", "kubectl")
# The component's name in `kubeadm config images list` -> where its image has the binary.
COMPONENTS = {
    "kube-apiserver": "usr/local/bin/kube-apiserver",
    "kube-controller-manager": "usr/local/bin/kube-controller-manager",
    "kube-scheduler": "usr/local/bin/kube-scheduler",
    "etcd": "usr/local/bin/etcd",
    "coredns": "coredns",
    "pause": "pause",
}

KUBE_PROXY_DOCKERFILE = f"""\
FROM {DEBIAN}
RUN apt-get update -qq \\
 && apt-get install -qqy --no-install-recommends iptables \\
 && rm -rf /var/lib/apt/lists/*
COPY kube-proxy /usr/local/bin/kube-proxy
"""


def node_image(engine: Engine) -> str:
    """Give the name of an up-to-date node image, made if need be (cold: a minute, binaries not counted)."""
    kubernetes = version("kubeadm")
    tag = f"slm-testbed/node:{kubernetes}"
    with one_at_a_time("node-image"):
        key = _key(kubernetes)
        if not has_key(engine, tag, key):
            with tempfile.TemporaryDirectory(dir=cache_dir() / "docker", prefix="node-image-") as name:
                _make(engine, Path(name), kubernetes, tag, key)
    return tag


def _key(kubernetes: str) -> str:
    files = sorted(path for path in NODE_IMAGE_FILES.rglob("*") if path.is_file() and path.suffix != ".py")
    contents = [path.read_bytes() for path in files]
    # A program's path in the cache carries a hash of all that it was built from.
    programs = [str(binary(name)) for name in (*NODE_BINARIES, "kube-proxy", "kind", *COMPONENTS) if name != "pause"]
    return key_of("node-1", kubernetes, KUBE_PROXY_DOCKERFILE, *programs, *contents)


def _make(engine: Engine, work: Path, kubernetes: str, tag: str, key: str) -> None:
    ensure_base(engine, DEBIAN)
    base = f"slm-testbed/node-base:{kubernetes}"
    engine.docker("build", "--network", "host", "--tag", base, str(_context(work / "node", kubernetes)), timeout_s=1800)
    images = _component_images(engine, work, kubernetes)
    archive = work / "images.tar"
    engine.docker("save", "--output", str(archive), *images)
    _preload(engine, base, archive, tag, key)
    engine.docker("rmi", *images)  # the node has them; the engine needs them no more


def _context(folder: Path, kubernetes: str) -> Path:
    """Lay out the node image's build context."""
    shutil.copytree(_kind_base_files(), folder / "kind")
    for path in (folder / "kind").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the module cache is read-only
    shutil.copytree(NODE_IMAGE_FILES / "files", folder / "files")
    (folder / "files" / "kind" / "version").write_text(kubernetes)
    shutil.copy(NODE_IMAGE_FILES / "Dockerfile", folder)
    (folder / "bin").mkdir()
    for name in NODE_BINARIES:
        shutil.copy(binary(name), folder / "bin" / name)
    return folder


def _kind_base_files() -> Path:
    described = json.loads(_run("go", "mod", "download", "-json", KIND_MODULE, cwd=TOOLS_DIR / "kind"))
    return Path(described["Dir"]) / "images" / "base" / "files"


def _component_images(engine: Engine, work: Path, kubernetes: str) -> list[str]:
    """Put each control plane component into an image of the name that kubeadm expects."""
    listed = _run(binary("kubeadm"), "config", "images", "list", f"--kubernetes-version={kubernetes}").split()
    by_name = {image.rpartition(":")[0].rpartition("/")[2]: image for image in listed}
    for name, path in COMPONENTS.items():
        program = _pause(work) if name == "pause" else binary(name)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(program, arcname=path)
        settings = (f"ENV PATH={PATH}", f'ENTRYPOINT ["/{path}"]')
        changes = [word for setting in settings for word in ("--change", setting)]
        engine.docker("import", *changes, "-", by_name[name], stdin=archive.getvalue())
    context = work / "kube-proxy"
    context.mkdir()
    shutil.copy(binary("kube-proxy"), context)
    (context / "Dockerfile").write_text(KUBE_PROXY_DOCKERFILE)
    engine.docker("build", "--network", "host", "--tag", by_name["kube-proxy"], str(context), timeout_s=1800)
    return [by_name[name] for name in (*COMPONENTS, "kube-proxy")]


def _pause(work: Path) -> Path:
    program = work / "pause"
    source = NODE_IMAGE_FILES / "pause.go"
    _run("go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(program), str(source), env={"CGO_ENABLED": "0"})
    return program


def _preload(engine: Engine, base: str, archive: Path, tag: str, key: str) -> None:
    """Import the archive into the base image's containerd and commit the result as the node image."""
    container = f"slm-preload-{uuid.uuid4().hex[:8]}"
    try:
        engine.docker(
            *("run", "--name", container, "--privileged", "--network", "none"),
            *("--volume", f"{archive}:/images.tar:ro", "--entrypoint", "/bin/bash"),
            *(base, "-c", "/kind/bin/preload-images.sh < /images.tar"),
        )
        settings = (
            'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
            "CMD []",
            f"LABEL {KEY_LABEL}={key}",
        )
        changes = [word for setting in settings for word in ("--change", setting)]
        engine.docker("commit", *changes, container, tag)
    finally:
        engine.docker("rm", "--force", "--volumes", container)


def _run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, env=os.environ | (env or {}), cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DockerError(f"{' '.join(words[:6])} failed: {(done.stderr or done.stdout)[-3000:]}")
    return done.stdout
