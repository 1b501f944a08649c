"""The cluster's programs, built from pinned Go modules when they are first asked for.

Each folder under `tools/` is a Go module that pins one group of programs by go.mod and go.sum. A
built program lies in the cache folder under a hash of these two files and of the build's settings,
so that a stale one is never used. Programs are static: they run here and in any container image.

It assumes `go` in PATH and a Go module proxy, for the first build only. It must never write into
the clone. Say `python -m tests.testbed.gotools [PROGRAM...]` to build ahead and see the paths.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOOLS_DIR = Path(__file__).with_name("tools")
PROGRESS_EVERY_S = 15.0
BUILD_FLAGS = ("-trimpath", "-v")
FETCHES = 3
"""Tries to fetch a module: unlike apt, pip and uv, go asks a proxy once."""


class BuildError(RuntimeError):
    """A program could not be built; the message has what go said."""


@dataclass(frozen=True, slots=True)
class Group:
    """Programs of one Go module under tools/, which are built together."""

    name: str
    packages: dict[str, str]  # program -> its main package
    module: str  # the module whose version the programs report
    version_variables: tuple[str, ...] = ()  # linked in: "path.name={version}", also {major} and {minor}
    on_demand: bool = False  # built when it is asked for, not with everything: few need it, or it takes ten minutes

    @property
    def folder(self) -> Path:
        """The Go module that pins this group."""
        return TOOLS_DIR / self.name


KUBERNETES_PROGRAMS = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-proxy",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
)
KUBERNETES_VERSION_VARIABLES = tuple(
    f"{package}.{variable}"
    # The first is what the programs report of themselves, the second what they send as user agent.
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for variable in ("gitVersion={version}", "gitMajor={major}", "gitMinor={minor}", "gitTreeState=clean")
)
HELM_VERSION_VARIABLES = (
    "helm.sh/helm/v3/internal/version.version={version}",
    # What charts see as .Capabilities.KubeVersion when no cluster is asked.
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=35",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=35",
)
GROUPS = (
    Group(
        "kubernetes",
        {program: f"k8s.io/kubernetes/cmd/{program}" for program in KUBERNETES_PROGRAMS},
        "k8s.io/kubernetes",
        KUBERNETES_VERSION_VARIABLES,
    ),
    Group("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}, "go.etcd.io/etcd/server/v3"),
    Group("coredns", {"coredns": "github.com/coredns/coredns"}, "github.com/coredns/coredns"),
    Group("kind", {"kind": "sigs.k8s.io/kind"}, "sigs.k8s.io/kind"),
    Group(
        "kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        "sigs.k8s.io/kwok",
        ("sigs.k8s.io/kwok/pkg/consts.Version={version}",),
    ),
    Group("helm", {"helm": "helm.sh/helm/v3/cmd/helm"}, "helm.sh/helm/v3", HELM_VERSION_VARIABLES),
    Group(
        "kubeconform",
        {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
        "github.com/yannh/kubeconform",
        ("main.version={version}",),
    ),
    Group(
        "helm-unittest",
        {"helm-unittest": "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"},
        "github.com/helm-unittest/helm-unittest",
    ),
    Group(
        "actionlint",
        {"actionlint": "github.com/rhysd/actionlint/cmd/actionlint"},
        "github.com/rhysd/actionlint",
    ),
    Group(
        "flux",
        {"kustomize-controller": "github.com/fluxcd/kustomize-controller"},
        "github.com/fluxcd/kustomize-controller",
    ),
    Group("oras", {"oras": "oras.land/oras/cmd/oras"}, "oras.land/oras", on_demand=True),
    Group(
        "registry",
        {"registry": "github.com/distribution/distribution/v3/cmd/registry"},
        "github.com/distribution/distribution/v3",
        on_demand=True,
    ),
    Group(
        "cosign",
        {"cosign": "github.com/sigstore/cosign/v2/cmd/cosign"},
        "github.com/sigstore/cosign/v2",
        on_demand=True,
    ),
    # Late: the first test of tests/e2e asks for it, and whoever builds everything has something else to do meanwhile.
    Group(
        "prometheus-adapter",
        {"prometheus-adapter": "sigs.k8s.io/prometheus-adapter/cmd/adapter"},
        "sigs.k8s.io/prometheus-adapter",
    ),
    Group(
        "keda",
        {f"keda-{program}": f"github.com/kedacore/keda/v2/cmd/{program}" for program in ("operator", "adapter")},
        "github.com/kedacore/keda/v2",
        on_demand=True,
    ),
    Group(
        "kube-router",
        {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
        "github.com/cloudnativelabs/kube-router/v2",
        on_demand=True,
    ),
    Group("karpenter", {"kwok-karpenter": "sigs.k8s.io/karpenter/kwok"}, "sigs.k8s.io/karpenter", on_demand=True),
)


def cache_dir() -> Path:
    """Where expensive things are kept, outside the clone: $SLM_CACHE or ~/.cache/slm-operator."""
    return Path(os.environ.get("SLM_CACHE") or Path.home() / ".cache" / "slm-operator")


@contextlib.contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let only one process of this machine make the thing called `name`; the others find it made."""
    path = cache_dir() / "docker" / "making" / re.sub(r"\W", "-", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def binary(name: str) -> Path:
    """The path of the named program, built when the cache does not have it.

    One call builds the program's whole group (all of Kubernetes: minutes when cold). Two callers at
    once build once. Raises KeyError for an unknown name, BuildError when go fails.
    """
    group = next((group for group in GROUPS if name in group.packages), None)
    if group is None:
        known = ", ".join(program for group in GROUPS for program in group.packages)
        raise KeyError(f"no Go tool named {name!r}; known are {known}")
    built = cache_dir() / "go-tools" / f"{group.name}-{_fingerprint(group)}"
    if not built.is_dir():
        with _one_builder(group):
            if not built.is_dir():
                _build(group, built)
    return built / name


def sources(group: str, module: str) -> Path:
    """The read-only source folder of a module that this group pins, for files that are in no program (CRDs).

    `module` may also be path@version. Raises BuildError when go cannot fetch it.
    """
    command = ["go", "mod", "download", "-json", module]
    for _ in range(FETCHES):
        done = subprocess.run(command, cwd=TOOLS_DIR / group, capture_output=True, text=True, check=False)
        if not done.returncode:
            return Path(json.loads(done.stdout)["Dir"])
    raise BuildError(f"go could not fetch {module} for {TOOLS_DIR / group}: {done.stderr}{done.stdout}")


def version(name: str) -> str:
    """The pinned version of the named program, as go.mod says it, like "v1.35.4"."""
    return _version(next(group for group in GROUPS if name in group.packages))


def _version(group: Group) -> str:
    mod = (group.folder / "go.mod").read_text(encoding="utf-8")
    found = re.search(rf"^(?:require)?\s+{re.escape(group.module)} (v\S+)", mod, re.MULTILINE)
    if found is None:
        raise BuildError(f"{group.folder}/go.mod does not require {group.module}; run go get -tool there")
    return found[1]


def _ldflags(group: Group) -> str:
    full = _version(group)
    major, minor, *_ = full.removeprefix("v").split(".")
    variables = (variable.format(version=full, major=major, minor=minor) for variable in group.version_variables)
    return " ".join(["-s", "-w", *(f"-X {variable}" for variable in variables)])


def _fingerprint(group: Group) -> str:
    digest = hashlib.sha256()
    for part in ("go.mod", "go.sum"):
        digest.update((group.folder / part).read_bytes())
    digest.update(repr((BUILD_FLAGS, _ldflags(group), sorted(group.packages.items()))).encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def _one_builder(group: Group) -> Iterator[None]:
    path = cache_dir() / "go-tools" / f"{group.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:  # the kernel drops the lock of a killed builder
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"{group.name}: somebody else is building it; waiting")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(group: Group, built: Path) -> None:
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"{', '.join(group.packages)} must be built, and there is no `go` in PATH: install Go 1.26")
    started = time.monotonic()
    _say(f"building {', '.join(group.packages)} {_version(group)} (kept in {built.parent})")
    with tempfile.TemporaryDirectory(dir=built.parent, prefix=f".{group.name}-") as staging:
        folder = Path(staging) / "bin"
        folder.mkdir()
        # One program is named by us; several take their packages' names first.
        target = str(folder / next(iter(group.packages))) if len(group.packages) == 1 else f"{folder}/"
        _go_build(group, [go, "build", *BUILD_FLAGS, "-ldflags", _ldflags(group), "-o", target])
        for program, package in group.packages.items() if len(group.packages) > 1 else ():
            (folder / Path(package).name).rename(folder / program)
        folder.rename(built)  # whole or not at all
    _say(f"built {group.name} in {time.monotonic() - started:.0f} s")


def _go_build(group: Group, command: list[str]) -> None:
    env = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
    with subprocess.Popen(
        [*command, *group.packages.values()],
        cwd=group.folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as go:
        try:
            said = _follow(group, go)
        except BaseException:
            os.killpg(go.pid, signal.SIGKILL)
            raise
    if go.returncode:
        raise BuildError(f"go build of {group.name} failed ({go.returncode}) in {group.folder}:\n{said}")


def _follow(group: Group, go: subprocess.Popen[str]) -> str:
    """Show a sign of life while go works, and give the end of what it says beside progress."""
    assert go.stdout is not None
    said: deque[str] = deque(maxlen=30)
    shown, compiled = time.monotonic(), 0
    for line in go.stdout:
        if " " in line.strip():
            said.append(line)
        else:  # -v names each package as it is compiled
            compiled += 1
        if time.monotonic() - shown > PROGRESS_EVERY_S:
            shown = time.monotonic()
            _say(f"  {group.name}: {compiled} packages compiled, now {line.strip()}")
    return "".join(said)


def _say(line: str) -> None:
    print(f"[testbed] {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Build what the command line names, or everything, and print where it is; a failure is one message."""
    try:
        for program in sys.argv[1:] or [
            program for group in GROUPS if not group.on_demand for program in group.packages
        ]:
            print(binary(program))
    except (BuildError, KeyError) as error:
        print(f"[testbed] {error.args[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
