"""What can go wrong while measuring, by class: one line with the cause, one with the remedy, one exit status each.

Exists so that a Job's exit code, a log line and a person at a terminal all say the same. What an engine's own words mean
is for `engines` to say. Must never let a traceback stand for an explanation.
"""

from __future__ import annotations

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
    GPU_UNREADABLE = "GpuUnreadable"
    GPU_COMPUTE_MODE = "GpuComputeMode"
    GPU_SHARED = "GpuInUse"
    GPU_PARTITIONED = "GpuPartitioned"
    GPU_NOT_AS_ASKED = "GpuNotAsAsked"
    INTERNAL = "Internal"


EXIT_STATUS = {
    Failure.MODEL: 10,
    Failure.ARGUMENTS: 11,
    Failure.COMMAND: 12,
    Failure.NEVER_HEALTHY: 13,
    Failure.DIED: 14,
    Failure.ANSWERS_ERRORS: 15,
    Failure.HANGS: 16,
    Failure.METRICS: 17,
    Failure.WORKLOAD: 18,
    Failure.MEMORY: 19,
    Failure.BUDGET: 20,
    Failure.PORT: 21,
    Failure.DISK: 22,
    Failure.SHARING: 23,
    Failure.INTERRUPTED: 24,
    Failure.NOTHING_MEASURED: 25,
    Failure.GPU_UNREADABLE: 30,
    Failure.GPU_COMPUTE_MODE: 31,
    Failure.GPU_SHARED: 32,
    Failure.GPU_PARTITIONED: 33,
    Failure.GPU_NOT_AS_ASKED: 34,
    Failure.INTERNAL: 70,
}
"""Exit status of each class. 0: measured, also when the budget ended the search; 2: the command line was wrong."""

REMEDY = {
    Failure.MODEL: "check that --model is a folder with config.json, weights and tokenizer, complete and readable",
    Failure.ARGUMENTS: "correct the engine arguments after `--` (or spec.engine)",
    Failure.COMMAND: "give the engine's command after `--`",
    Failure.NEVER_HEALTHY: "read the engine's last lines; if it only loads slowly, raise --startup-timeout-seconds",
    Failure.DIED: "read the engine's last lines; a smaller --max-batch-size may keep it alive",
    Failure.ANSWERS_ERRORS: "send the engine one request by hand and read its answer",
    Failure.HANGS: "restart the engine with its debug log; a smaller --max-batch-size may keep it alive",
    Failure.METRICS: "use an engine that exports its counters",
    Failure.WORKLOAD: "correct the workload's lengths or the dataset file, or raise --max-model-len",
    Failure.MEMORY: "lower --max-model-len, free memory on the device, or use a larger one",
    Failure.BUDGET: "raise --max-gpu-minutes: an engine start and two points must fit",
    Failure.PORT: "leave the port to the profiler",
    Failure.DISK: "free space where --output and TMPDIR are",
    Failure.SHARING: "choose another --sharing-mode, or run where NVIDIA's MPS can be started",
    Failure.INTERRUPTED: "run it again; what was measured is in the document",
    Failure.NOTHING_MEASURED: "read the events before this one",
    Failure.GPU_UNREADABLE: "give the container the driver capability `utility` (NVIDIA_DRIVER_CAPABILITIES=compute,utility), "
    "which brings libnvidia-ml.so.1; boards that have no memory of their own cannot be measured; --device cpu measures the CPU",
    Failure.GPU_COMPUTE_MODE: "set it back on the node: nvidia-smi -c 0",
    Failure.GPU_SHARED: "end what else runs on this GPU (nvidia-smi on the node lists it), or keep it off the node",
    Failure.GPU_PARTITIONED: "measure on a whole GPU: switch MIG off on the node (nvidia-smi -mig 0), or choose another node",
    Failure.GPU_NOT_AS_ASKED: "correct the product asked for or the node's labels; where several GPUs are visible, name one "
    "by CUDA_VISIBLE_DEVICES",
    Failure.INTERNAL: "report this with the events before it",
}
"""What to do about each class. An engine may have better words: see `Engine.remedies`."""


class ProfileError(Exception):
    """Something that no other configuration of engines can fix: it ends the search."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class EngineFailed(Exception):  # noqa: N818 - it says what happened; the word error would add nothing
    """The engines did not start, died, hung or answered nonsense. The message is the reason, in one line.

    The search takes it as a finding about that configuration, and goes on. Anything that no other configuration could
    fix (no model, no memory for one sequence) is not for the search: raise something else and it ends.
    """


class EngineFault(EngineFailed):
    """Something that another configuration may not suffer from: the search goes on."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure
