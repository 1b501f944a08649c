"""What a test may choose about the stand-in: the GPUs it pretends to have, and its faults.

The GPUs are environment variables of the pods (`GPU_COUNT` and so on, see `Hardware.from_env`), because hardware
does not change under a running daemon. Faults are an annotation of the node, because they must be switchable
at run time and every part watches its node anyway:

    kubectl annotate node NODE --overwrite standin.slm-operator.io/faults='{late_s: 20, xid_gpu: 0}'
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self
from uuid import NAMESPACE_DNS, uuid5

import yaml

FAULTS_ANNOTATION = "standin.slm-operator.io/faults"
FAULT_TYPES: dict[str, tuple[type, ...]] = {
    "late_s": (int, float),
    "stuck": (bool,),
    "crash": (bool,),
    "xid_gpu": (int,),
    "mps_daemon_dead": (bool,),
    "mps_quit_s": (int, float),
}


def place(path: str) -> Path:
    """A container's path. Where the parts run without containers, STANDIN_ROOT is the folder that stands for their root."""
    return Path(os.environ.get("STANDIN_ROOT", "") + path)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU."""

    index: int
    uuid: str  # GPU-<uuid>, as NVML names it
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """The node's GPUs, all alike. The defaults are those of the machine whose traces were recorded."""

    count: int = 8
    product: str = "NVIDIA H100 80GB HBM3"  # NVML's spelling
    memory_mib: int = 81_920
    family: str = "hopper"
    compute_capability: str = "9.0"
    driver_version: str = "580.65.06"
    cuda_version: str = "13.0"
    machine: str = "DGXH100"  # what its firmware calls it
    clique: str = "00000000-0000-0000-0000-000000000001.0"  # cluster and clique of its NVLink fabric

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read `GPU_<FIELD>` for each field, upper case; absent ones keep their default."""
        given = {field.name: env.get(f"GPU_{field.name.upper()}") for field in fields(cls)}
        return cls(**{name: type(getattr(cls(), name))(value) for name, value in given.items() if value})

    def gpus(self, node: str) -> tuple[Gpu, ...]:
        """The GPUs of a node. Their UUIDs depend on its name and the index alone: they survive restarts."""
        return tuple(
            Gpu(index, f"GPU-{uuid5(NAMESPACE_DNS, f'{index}.{node}')}", self.memory_mib) for index in range(self.count)
        )


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on purpose."""

    late_s: float = 0.0  # the plugin and feature discovery act on a new configuration so much later
    stuck: bool = False  # they never act on it
    crash: bool = False  # the plugin exits, and again whenever it is restarted
    xid_gpu: int | None = (
        None  # a critical error of this GPU is reported, once, at the moment at which this is switched on
    )
    mps_daemon_dead: bool = False  # the control daemon dies as if killed, and again whenever it is restarted
    mps_quit_s: float = 0.0  # MPS takes so long to quit, as with clients that do not end

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read the annotation, a YAML mapping of the fields; ValueError for anything else."""
        try:
            given = yaml.safe_load(text or "{}")
        except yaml.YAMLError:
            given = None
        if not isinstance(given, dict) or not all(
            isinstance(value, FAULT_TYPES.get(name, ())) for name, value in given.items()
        ):
            raise ValueError(f"{FAULTS_ANNOTATION} must be a mapping of {', '.join(FAULT_TYPES)}; found {text!r}")
        return cls(**given)
