"""Images for the test bed: the project's own, built from their real Dockerfiles.

    build(engine, Path("images/operator/Dockerfile"), Path("."), "slm-operator:test")

A private engine has no registry to pull from, so the bases that the Dockerfiles name are made on
the spot from Debian packages, under the same names. What this machine needs to reach package
registries (mirror, certificate authorities, pip settings) goes into these local bases and so never
into a committed Dockerfile. On a foreign engine the real bases are pulled, as anywhere.

It assumes the legacy builder on a private engine: Dockerfiles must not need BuildKit.
"""

import configparser
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from .docker_engine import DockerError, Engine
from .gotools import cache_dir, one_at_a_time

DEBIAN = "debian:bookworm-slim"
PYTHON = "python:3.11-slim-bookworm"
STAND_INS = (DEBIAN, PYTHON)
SUITE = "bookworm"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
CA_FOLDER = Path("/usr/local/share/ca-certificates")
KEY_LABEL = "io.slm-operator.testbed.key"

# As the official slim images have it: no documentation, and no index kept between layers.
DPKG_SLIM = "".join(
    f"path-exclude /usr/share/{name}/*\n" for name in ("doc", "man", "info", "locale", "groff", "lintian", "linda")
)

# And no archive or index cache of apt's in any layer.
APT_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""

PYTHON_DOCKERFILE = f"""\
FROM {DEBIAN}
RUN apt-get update -qq \\
 && apt-get install -qqy --no-install-recommends python3 python3-venv python3-pip ca-certificates \\
 && rm -rf /var/lib/apt/lists/* \\
 && ln -s /usr/bin/python3 /usr/local/bin/python \\
 && ln -s /usr/bin/python3 /usr/local/bin/python3
CMD ["python3"]
"""


def build(
    engine: Engine, dockerfile: Path, context: Path, tag: str, build_args: Mapping[str, str] | None = None
) -> str:
    """Build one image with `docker build --network host` and give its tag; DockerError carries the build's output."""
    bases, stages = _starts(dockerfile.read_text())
    if engine.private:
        for base in bases:
            ensure_base(engine, base)
        # NB: a stage without a name is an image without a name, which goes with this engine's end, and with it its cache.
        for stage in stages:
            _build(engine, dockerfile, context, f"{tag}-{stage}", build_args or {}, "--target", stage)
    return _build(engine, dockerfile, context, tag, build_args or {})


def ensure_base(engine: Engine, base: str) -> None:
    """Make the local stand-in for a public base image, unless it is there and up to date."""
    makers = {DEBIAN: _make_debian, PYTHON: _make_python}
    if base not in makers:
        if not engine.has_image(base):
            raise DockerError(f"no registry can be reached to pull {base!r}; stand-ins exist for {', '.join(makers)}")
        return
    with one_at_a_time(f"base-{base}"):
        makers[base](engine)


def key_of(*parts: bytes | str) -> str:
    """Hash what an image is made from, so that it is made again when that changes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def has_key(engine: Engine, tag: str, key: str) -> bool:
    """Tell whether the image of that name was made from what `key` hashes."""
    if not engine.has_image(tag):
        return False
    return (
        engine.docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{KEY_LABEL}"}}}}', tag).strip() == key
    )


def _build(engine: Engine, dockerfile: Path, context: Path, tag: str, build_args: Mapping[str, str], *more: str) -> str:
    given = [word for name, value in build_args.items() for word in ("--build-arg", f"{name}={value}")]
    # The standard proxy variables are build arguments that no Dockerfile has to declare.
    proxies = [word for name in os.environ if name.lower().endswith("_proxy") for word in ("--build-arg", name)]
    engine.docker(
        "build",
        "--network",
        "host",
        "--tag",
        tag,
        "--file",
        str(dockerfile),
        *given,
        *proxies,
        *more,
        str(context),
        timeout_s=1800,
    )
    return tag


def _starts(dockerfile: str) -> tuple[list[str], list[str]]:
    """List the images that a Dockerfile starts from, by the defaults of its arguments, and the names of its own stages."""
    defaults = dict(re.findall(r"^ARG\s+(\w+)=(\S+)", dockerfile, re.MULTILINE))
    pattern = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.MULTILINE | re.IGNORECASE)
    stages: list[str] = []
    bases = []
    for start, stage in pattern.findall(dockerfile):
        image = re.sub(r"\$\{(\w+)\}", lambda argument: defaults.get(argument[1], argument[0]), start)
        if image not in {"scratch", *stages} and "$" not in image:
            bases.append(image)
        if stage:
            stages.append(stage)
    return bases, stages


def _make_debian(engine: Engine) -> None:
    extra = _debian_files()
    key = key_of("debian-1", *(f"{name}\n{text}" for name, text in sorted(extra.items())))
    if has_key(engine, DEBIAN, key):
        return
    with tempfile.TemporaryDirectory(dir=cache_dir() / "docker", prefix="debootstrap-") as name:
        root = Path(name) / "root"
        command = ["debootstrap", "--variant=minbase", SUITE, str(root), _mirror()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DockerError(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-2000:]}")
        for folder in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
            shutil.rmtree(root / folder)
            (root / folder).mkdir()
        for folder in ("doc", "man", "info", "locale"):
            shutil.rmtree(root / "usr/share" / folder, ignore_errors=True)
        for path, text in extra.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(root, arcname=".", filter=lambda member: None if member.ischr() or member.isblk() else member)
    settings = (f"LABEL {KEY_LABEL}={key}", 'CMD ["bash"]', f"ENV SSL_CERT_FILE={CA_BUNDLE}")
    changes = [word for setting in settings for word in ("--change", setting)]
    engine.docker("import", *changes, "-", DEBIAN, stdin=archive.getvalue())


def _make_python(engine: Engine) -> None:
    ensure_base(engine, DEBIAN)
    parent = engine.docker("image", "inspect", "--format", "{{.Id}}", DEBIAN)
    key = key_of(parent, PYTHON_DOCKERFILE)
    if has_key(engine, PYTHON, key):
        return
    with tempfile.TemporaryDirectory() as name:
        dockerfile = Path(name) / "Dockerfile"
        dockerfile.write_text(f"{PYTHON_DOCKERFILE}LABEL {KEY_LABEL}={key}\n")
        _build(engine, dockerfile, Path(name), PYTHON, {})


def _debian_files() -> dict[str, str]:
    """Give the files that make apt and pip in a container reach what this machine reaches."""
    mirror = _mirror()
    security = mirror.removesuffix("/").removesuffix("/debian") + "/debian-security"
    files = {
        "etc/apt/sources.list": f"deb {mirror} {SUITE} main\ndeb {mirror} {SUITE}-updates main\n"
        f"deb {security} {SUITE}-security main\n",
        "etc/apt/apt.conf.d/90machine": _apt_settings() + 'APT::Install-Recommends "false";\n',
        "etc/apt/apt.conf.d/90clean": APT_CLEAN,
        "etc/dpkg/dpkg.cfg.d/90slim": DPKG_SLIM,
        "etc/pip.conf": _pip_settings(),
    }
    if CA_BUNDLE.exists():
        files[str(CA_BUNDLE)[1:]] = CA_BUNDLE.read_text()
    for certificate in sorted(CA_FOLDER.glob("*.crt")):
        files[str(certificate)[1:]] = certificate.read_text()
    return files


def _mirror() -> str:
    """Give the mirror from which this machine takes Debian bookworm."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)"]
    for line in subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines():
        uri, *rest = line.split()
        if rest == [SUITE, "main"]:
            return uri.removesuffix("/")
    raise DockerError("apt here knows no Debian bookworm: without a Docker engine the test bed needs Debian 12")


def _apt_settings() -> str:
    dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
    wanted = ("Acquire::Check-", "Acquire::http", "Acquire::https", "Acquire::Retries")
    return "".join(f"{line}\n" for line in dumped.splitlines() if line.startswith(wanted))


def _pip_settings() -> str:
    """Give pip.conf: this machine's index and certificates, and Debian's pip as free as the official image's."""
    machine = configparser.ConfigParser(interpolation=None)
    machine.read(["/etc/pip.conf", Path.home() / ".config/pip/pip.conf"])
    settings = {"break-system-packages": "true", "root-user-action": "ignore"}
    if CA_BUNDLE.exists():
        settings["cert"] = str(CA_BUNDLE)
    for name in ("index-url", "extra-index-url", "trusted-host"):
        value = os.environ.get(f"PIP_{name.upper().replace('-', '_')}") or machine.get("global", name, fallback=None)
        if value:
            settings[name] = value
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
