"""What can go wrong while measuring, by class: one line with the cause, one with the remedy, one exit status each.

Exists so that a Job's exit code, a log line and a person at a terminal all say the same. What an engine's own words mean
is for `engines` to say. Must never let a traceback stand for an explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Failure(StrEnum):
    """Classes of failure. The names are part of the event format."""

    MODEL = "ModelUnusable"
    ARGUMENTS = "EngineArgumentsRefused"
    COMMAND = "EngineCommandUnusable"
    NEVER_HEALTHY = "EngineNeverHealthy"
    DIED = "EngineDied"
    ANSWERS_ERRORS = "EngineAnswersErrors"
    HANGS = "EngineHangs"
    METRICS = "EngineMetricsMissing"
    WORKLOAD = "WorkloadUnusable"
    MEMORY = "NoMemoryForOneSequence"
    BUDGET = "BudgetTooSmall"
    PORT = "PortInUse"
    DISK = "DiskFull"
    SHARING = "SharingUnavailable"
    INTERRUPTED = "Interrupted"
    NOTHING_MEASURED = "NothingMeasured"
    SOURCE = "ModelSourceUnavailable"
    DRIVER = "DriverTooOld"
    HARDWARE = "HardwareUnsuitable"
    STATE_BLOCKS = "BatchExceedsStateBlocks"
    HOST_MEMORY = "HostMemoryExhausted"
    LOG = "EngineLogSilent"
    GPU_UNREADABLE = "GpuUnreadable"
    GPU_COMPUTE_MODE = "GpuComputeMode"
    GPU_SHARED = "GpuInUse"
    GPU_PARTITIONED = "GpuPartitioned"
    GPU_NOT_AS_ASKED = "GpuNotAsAsked"
    INTERNAL = "Internal"


@dataclass(frozen=True, slots=True)
class _Class:
    exit_status: int
    is_final: bool
    remedy: str


_CLASSES = {
    Failure.MODEL: _Class(
        10, True, "check that --model is a folder with config.json, weights and tokenizer, complete and readable"
    ),
    Failure.ARGUMENTS: _Class(11, True, "correct the engine arguments after `--` (or spec.engine)"),
    Failure.COMMAND: _Class(12, True, "give the engine's command after `--`"),
    Failure.NEVER_HEALTHY: _Class(
        13, False, "read the engine's last lines; if it only loads slowly, raise --startup-timeout-seconds"
    ),
    Failure.DIED: _Class(
        14, False, "read the engine's last lines; start it by hand with the same words if they do not say why"
    ),
    Failure.ANSWERS_ERRORS: _Class(15, False, "send the engine one request by hand and read its answer"),
    Failure.HANGS: _Class(
        16, False, "raise --hang-seconds if the engine is only slow; else read what its debug log says last"
    ),
    Failure.METRICS: _Class(17, True, "use an engine that exports its counters"),
    Failure.WORKLOAD: _Class(18, True, "correct the workload's lengths or the dataset file, or raise --max-model-len"),
    Failure.MEMORY: _Class(19, False, "lower --max-model-len, free memory on the device, or use a larger one"),
    Failure.BUDGET: _Class(20, True, "raise --max-gpu-minutes: an engine start and two points must fit"),
    Failure.PORT: _Class(21, False, "leave the port to the profiler"),
    Failure.DISK: _Class(22, True, "free space where --output, TMPDIR and the model's files are"),
    Failure.SHARING: _Class(23, False, "choose another --sharing-mode, or run where NVIDIA's MPS can be started"),
    Failure.INTERRUPTED: _Class(24, True, "run it again; what was measured is in the document"),
    Failure.NOTHING_MEASURED: _Class(25, True, "read the events before this one"),
    Failure.SOURCE: _Class(
        26, True, "try again later, or keep the model on a claim (pvc://), from where nothing is downloaded"
    ),
    Failure.DRIVER: _Class(
        27, True, "use a newer NVIDIA driver on the node, or an image of the engine that is built for an older CUDA"
    ),
    Failure.HARDWARE: _Class(28, True, "use another device, or an image of the engine that is built for this one"),
    Failure.STATE_BLOCKS: _Class(29, False, "lower --max-batch-size to the number of blocks that the engine names"),
    Failure.HOST_MEMORY: _Class(
        30, False, "give the container more memory, or measure fewer engines at once (--max-engines-per-gpu)"
    ),
    Failure.LOG: _Class(31, True, "let the engine write its log to its standard output, at level INFO"),
    Failure.GPU_UNREADABLE: _Class(
        32,
        True,
        "give the container the driver capability `utility` (NVIDIA_DRIVER_CAPABILITIES=compute,utility), which brings "
        "libnvidia-ml.so.1; boards that have no memory of their own cannot be measured; --device cpu measures the CPU",
    ),
    Failure.GPU_COMPUTE_MODE: _Class(33, True, "set it back on the node: nvidia-smi -c 0"),
    Failure.GPU_SHARED: _Class(
        34, True, "end what else runs on this GPU (nvidia-smi on the node lists it), or keep it off the node"
    ),
    Failure.GPU_PARTITIONED: _Class(
        35, True, "measure on a whole GPU: switch MIG off on the node (nvidia-smi -mig 0), or choose another node"
    ),
    Failure.GPU_NOT_AS_ASKED: _Class(
        36,
        True,
        "correct the product asked for or the node's labels; where several GPUs are visible, name one by "
        "CUDA_VISIBLE_DEVICES",
    ),
    Failure.INTERNAL: _Class(70, True, "report this with the events before it"),
}
"""Of each class its exit status, whether no other configuration of engines can help, and what to do about it.

Where fewer sequences or fewer engines may help, the search goes on; a final class ends the profile at its first start.
"""
EXIT_STATUS = {failure: one.exit_status for failure, one in _CLASSES.items()}
"""Exit status of each class. 0: measured, also when the budget ended the search; 2: the command line was wrong."""
REMEDY = {failure: one.remedy for failure, one in _CLASSES.items()}
"""What to do about each class. An engine may have better words: see `Engine.remedies` and `Cause.remedy`."""
FINAL = frozenset(failure for failure, one in _CLASSES.items() if one.is_final)
"""Classes that fewer sequences or fewer engines do not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an engine is no more, or does not start, as its last words show it."""

    failure: Failure
    """DIED where no line tells."""
    line: str
    """The line that shows it, or else the last one; in at most 300 characters."""
    remedy: str | None = None
    """What to do about just this; None: what the class says."""
    batch_size_limit: int | None = None
    """Most sequences at once with which it would start, where it names the number."""
    signal: int | None = None
    """The signal that ended a process of its own, where it names that."""


class ProfileError(Exception):
    """Something that no other configuration of engines can fix: it ends the search."""

    def __init__(self, failure: Failure, message: str, remedy: str | None = None) -> None:
        """`remedy`: what to do about just this; None: what the class says."""
        super().__init__(message)
        self.failure = failure
        self.remedy = remedy


class EngineFailed(Exception):  # noqa: N818 - it says what happened; the word error would add nothing
    """The engines did not start, died, hung or answered nonsense. The message is the reason, in one line.

    The search takes it as a finding about that configuration, and goes on. Anything that no other configuration could
    fix (no model, no memory for one sequence) is not for the search: raise something else and it ends.
    """

    batch_size_limit: int | None = None
    """Most sequences at once with which the engine would start, where it names the number."""


class EngineFault(EngineFailed):
    """Something that another configuration may not suffer from: the search goes on."""

    def __init__(
        self, failure: Failure, message: str, *, remedy: str | None = None, batch_size_limit: int | None = None
    ) -> None:
        """`remedy`: as ProfileError has it."""
        super().__init__(message)
        self.failure = failure
        self.remedy = remedy
        self.batch_size_limit = batch_size_limit
        """Largest B with which it would start, where the engine names one."""


def error_of(cause: Cause, message: str) -> ProfileError | EngineFault:
    """What to raise for a cause: it ends the search just where its class is final."""
    if cause.failure in FINAL:
        return ProfileError(cause.failure, message, cause.remedy)
    return EngineFault(cause.failure, message, remedy=cause.remedy, batch_size_limit=cause.batch_size_limit)
