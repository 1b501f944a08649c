"""Why vLLM failed, by its last words: each common way has a sign, a class, and where it helps a remedy of its own.

Assumes that the words of the engine (and of torch, Transformers and the hub's client below it) name the root cause. Their
sources stand with the logs in tests/data/field/engine-logs.json. Must never take a line below ERROR for a reason, nor the
echo of a process for the root cause in another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from slm_core.failure import Cause, Failure

_ACCESS = (
    "name a Secret with an HF_TOKEN that may read the repository in spec.model.credentialsSecretRef (by hand: HF_TOKEN in "
    "the environment), accept the model's licence on its page, and check the name"
)
_BUCKET = "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY that may read the bucket in spec.model.credentialsSecretRef"
_TASK = "serve a model that generates text: this one embeds, ranks or classifies"
_LONGER = "lower spec.engine.maxModelLen to what the model was made for"
_CODE = "read the model's code, then set spec.model.remoteCode: Trusted (by hand: --trust-remote-code)"
_GPUS = "an engine has one GPU or a share of it: remove what asks for more from its command, or take a smaller model"
_DTYPE = "set spec.engine.dtype: float16 (by hand: --dtype float16), or use a GPU of compute capability 8.0 or above"
_NO_GPU = "run it where a GPU is visible: nvidia-smi must list one in the engine's container"
_NEWER = "use an image with a newer engine, or a model that this one knows"
_QUANTIZATION = "use weights in another format, or a GPU that knows this one"
_FLAGS = "remove from spec.engine.args what this version of the engine does not know, or use a newer engine"
_VARIABLE = "correct the variable in spec.engine.env (by hand: in the environment)"
_NCCL = "set NCCL_DEBUG=INFO in spec.engine.env and read the line before this one"
_DRIVER = (
    "use a newer NVIDIA driver on the node, or an image of the engine for an older CUDA; on data-centre GPUs "
    "VLLM_ENABLE_CUDA_COMPATIBILITY=1 in spec.engine.env may do"
)
_EXCLUSIVE = "set the GPU's compute mode to default, and see who else uses it"


@dataclass(frozen=True, slots=True)
class _Sign:
    failure: Failure
    pattern: str
    remedy: str | None = None
    limit: str | None = None
    """A pattern whose group 1 is the largest batch that would do."""


_SIGNS: tuple[_Sign, ...] = (
    _Sign(
        Failure.STATE_BLOCKS,
        r"max_num_seqs \(\d+\) exceeds available Mamba cache",
        limit=r"Mamba cache\s+blocks \((\d+)\)",
    ),
    _Sign(Failure.HARDWARE, r"no kernel image is available|is not compatible with the current PyTorch installation"),
    _Sign(Failure.DRIVER, r"NVIDIA driver on your system is too old|CUDA driver version is insufficient", _DRIVER),
    _Sign(Failure.DRIVER, r"forward compatibility was attempted|unsupported toolchain|unsatisfied condition: cuda", _DRIVER),
    _Sign(Failure.SHARING, r"MPS (?:client|server|daemon).*(?:failed|not ready|terminated)|[Mm]ps[A-Z]\w*(?:Failed|NotReady)"),
    _Sign(Failure.SHARING, r"CUDA-capable device\(s\) is/are busy or unavailable|devices? (?:is|are) busy or unavail", _EXCLUSIVE),
    _Sign(Failure.MEMORY, r"larger than the available KV cache|No available memory for the cache|OutOfMemoryError"),
    _Sign(Failure.MEMORY, r"out of memory|is less than desired (?:GPU|CPU) memory|is less than requested memory for kv"),
    _Sign(Failure.HOST_MEMORY, r"Cannot allocate memory|DefaultCPUAllocator: can't allocate|^MemoryError"),
    _Sign(Failure.PORT, r"[Aa]ddress already in use"),
    _Sign(Failure.DISK, r"No space left on device|Disk quota exceeded|Read-only file system|Not enough free disk space"),
    _Sign(Failure.MODEL, r"access (?:a )?gated repo|restricted and you are not in the authorized|403 Forbidden|401 Unauthorized", _ACCESS),
    _Sign(Failure.MODEL, r"Repository Not Found|Invalid (?:username|credentials|user token)|(?:Unauthorized|Forbidden) for url", _ACCESS),
    _Sign(Failure.MODEL, r"AccessDenied|NoCredentials|InvalidAccessKeyId|SignatureDoesNotMatch", _BUCKET),
    _Sign(Failure.MODEL, r"Revision Not Found|is not a valid git identifier", "correct spec.model.revision: the repository has no such commit, branch or tag"),
    _Sign(
        Failure.SOURCE,
        r"429 (?:Client Error|Too Many)|Too Many Requests",
        "wait, and give HF_TOKEN by spec.model.credentialsSecretRef (who is known may ask more often), or keep the model on a claim (pvc://)",
    ),
    _Sign(Failure.SOURCE, r"couldn't connect to|LocalEntryNotFound|error happened while trying to locate the file on the Hub"),
    _Sign(Failure.SOURCE, r"5\d\d Server Error|ConnectTimeout|ReadTimeout|Name or service not known|Temporary failure in name"),
    _Sign(Failure.ARGUMENTS, r"execute custom code|execute the (?:configuration|tokenizer) file|contains custom code|`trust_remote_code=True`", _CODE),
    _Sign(Failure.ARGUMENTS, r"World size \(\d+\) is larger than the number of available GPUs|is out of bounds for \d+ devices", _GPUS),
    _Sign(Failure.ARGUMENTS, r"Total number of attention heads .* must be divisible by tensor parallel", _GPUS),
    _Sign(Failure.ARGUMENTS, r"[Bb]float16 is only supported on GPUs", _DTYPE),
    _Sign(Failure.ARGUMENTS, r"[Uu]nknown dtype|dtype .*not supported|is not supported for dtype|not support dtype"),
    _Sign(Failure.ARGUMENTS, r"greater than the derived max_model_len", _LONGER),
    _Sign(Failure.ARGUMENTS, r"unrecognized arguments", _FLAGS),
    _Sign(Failure.ARGUMENTS, r"VLLM_\w+ '.*' (?:appears|must)|Invalid value .* (?:for|in) VLLM_|Could not load logging config", _VARIABLE),
    _Sign(Failure.ARGUMENTS, r"error: argument|invalid choice|error: the following arguments"),
    _Sign(Failure.HARDWARE, r"is not supported for the current GPU|[Mm]inimum capability", _QUANTIZATION),
    _Sign(Failure.MODEL, r"does not support `--runner generate`|model does not support (?:Chat )?Completions|models do not support `--runner gen", _TASK),
    _Sign(Failure.MODEL, r"Model architectures? .*(?:not supported|failed to be inspected)|does not recognize this architecture", _NEWER),
    _Sign(Failure.HARDWARE, r"No CUDA GPUs are available|no CUDA-capable device|no NVIDIA driver on your system|libcuda\.so\.1: cannot", _NO_GPU),
    _Sign(Failure.COMMAND, r"No module named|can't open file|: (?:command )?not found$"),
    _Sign(Failure.MODEL, r"Can't load the configuration|Invalid repository ID|does not appear to have a file named"),
    _Sign(Failure.MODEL, r"[Ss]afetensor|while deserializing header|not a valid JSON|Cannot find any model weights"),
    _Sign(Failure.MODEL, r"Can't load tokenizer|Unrecognized model|Consistency check failed|size mismatch for"),
    _Sign(Failure.MODEL, r"Unterminated string|Expecting (?:value|property|',')|Extra data: line"),
    _Sign(Failure.MODEL, r"JSONDecodeError|KeyError: 'architectures'"),
    _Sign(Failure.DIED, r"NCCL error|NCCL WARN|ncclSystemError|ncclUnhandledCudaError", _NCCL),
)  # fmt: skip
"""Of two that fit the same lines the first one counts; of two places in a log the later one."""
_VAGUE: tuple[_Sign, ...] = (
    # NB: it is said after every reason why torch cannot use a GPU; a warning before it may tell which.
    _Sign(Failure.HARDWARE, r"Failed to infer device type", _NO_GPU),
    _Sign(Failure.ARGUMENTS, r"^Value error, "),
)
"""Signs that count only where no other is."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(
    r"^(?:\([^)]*pid=\d+\) )*(?:\([^)]*\) )?(?:(?:INFO|ERROR|WARNING|CRITICAL)\s+)?(?:[\d-]+ [\d:]+ )?(?:\[[^\]]*\] )?"
)
_NOT_ERRORS = re.compile(r"^(?:\([^)]*\) )*(?:DEBUG|INFO|WARNING)\b")
"""Log lines below ERROR: some speak of errors that have not happened."""
_ERROR_LINE = re.compile(
    r"\b\w*(?:Error|Exception)\b.*:|\berror: |^Value error, |^MemoryError|UserWarning: CUDA initialization|: NCCL WARN |unsatisfied condition"
    r"|\berror while |^\w*Error$|: (?:command )?not found$"
)
_HEARSAY = re.compile(
    r"Engine core initialization failed|EngineDeadError|EngineGenerateError|See root cause|died unexpectedly|died with exit|WorkerProc initialization failed|WorkerProc failed to start"
)
_STATUS = re.compile(r"^\d{3} (?:Client|Server) Error")
"""How the hub's client writes what it was answered, below what that means."""
_BETWEEN = re.compile(r"^Traceback \(most recent|^During handling of|^The above exception|^  File |^\s*\^+$")
"""Lines at which what an error says ends."""
_KILLED = re.compile(r"(?:proc\(s\): \{.*?: |exit code:? ?)-(\d+)")
_MOST_CHARACTERS = 2000
"""Of one line that are looked at: an image prints what it likes."""
_MOST_ERRORS = 100
"""That are looked at, from the last one back."""
_MOST_LINES = 10
"""Of what one error says."""


def explain(log_tail: str) -> Cause:
    """Why the engine failed: of its last errors the one that shows a class, else the last error, else the last line."""
    said = [_ANSI.sub("", line[:_MOST_CHARACTERS]) for line in log_tail.splitlines()]
    grave = [_PREFIX.sub("", line).rstrip() for line in said if not _NOT_ERRORS.search(line)]
    errors = _errors(grave)[-_MOST_ERRORS:]
    killed = _KILLED.findall("\n".join(said))
    signal = int(killed[-1]) if killed else None
    for signs in (_SIGNS, _VAGUE):
        for lines in reversed(errors):
            for sign in signs:
                if (found := re.search(sign.pattern, "\n".join(lines), re.MULTILINE)) is not None:
                    limit = re.search(sign.limit, "\n".join(lines)) if sign.limit else None
                    return Cause(
                        failure=sign.failure,
                        line=_shown(lines, found),
                        remedy=sign.remedy,
                        batch_size_limit=int(limit[1]) if limit else None,
                        signal=signal,
                    )
    lines = [text for line in said if (text := _PREFIX.sub("", line).strip())]
    last = errors[-1][0] if errors else (lines[-1] if lines else "it printed nothing")
    return Cause(failure=Failure.DIED, line=_short(last), signal=signal)


def _errors(grave: list[str]) -> list[list[str]]:
    """What each error says: its line, and those that belong to it."""
    errors: list[list[str]] = []
    is_open = False
    for line in grave:
        text = line.strip()
        if _HEARSAY.search(line) or _BETWEEN.search(line):
            is_open = False
        elif _ERROR_LINE.search(text) and not (is_open and _STATUS.search(text)):
            errors.append([text])
            is_open = True
        elif is_open and len(errors[-1]) < _MOST_LINES:
            errors[-1].append(text)
    return errors


def _shown(lines: list[str], found: re.Match[str]) -> str:
    """The lines of the match, and of a sentence that goes on in the next one that too.

    NB: the hub's client writes a request's id into the first line, and what was wrong two lines below it.
    """
    first, last = (found.string.count("\n", 0, at) for at in (found.start(), found.end()))
    if first == last and "http" not in lines[last] and last + 1 < len(lines) and "http" in lines[last + 1]:
        last += 1
    return _short(" ".join(line for line in lines[first : last + 1] if line))


def _short(line: str) -> str:
    return line if len(line) <= 300 else f"{line[:297]}..."
