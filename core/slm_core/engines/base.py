"""What the product asks of an inference engine, whichever it is: the port `Engine`, and the words that it speaks in.

Exists so that a further engine is one module and one line of `registry`. Assumes an engine that is one process with
OpenAI's completions (prompts as token ids, `ignore_eos`), a Prometheus page and a health check over HTTP. Must never
know Kubernetes: an engine is started from a command line and an environment, whoever writes them down.

Errors. Whatever is pure and of our own making (command lines, names) raises nothing. What reads an engine's words
either raises ProfileError, as its docstring says, because no other configuration would fix it, or answers None or
`unknown` for what the engine did not say. Nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from slm_core.counters import Counters
    from slm_core.failure import Cause, Failure
    from slm_core.measurements import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """What the user chose about the model, beside its path. None: the engine's own default."""

    revision: str | None = None
    streamed: bool = False
    """The path is a bucket, from which weights are streamed."""
    dtype: str | None = None
    max_model_len: int | None = None
    """Longest sequence in tokens."""
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """What only an engine that serves clients is given."""

    port: int
    max_in_flight: int
    """Requests, running and waiting together, beyond which it refuses."""
    drain_seconds: int
    """How long requests in flight may go on after SIGTERM."""
    host: str | None = None
    """Address that it listens on. None: every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What one engine is started with. None: the engine's own default."""

    model: str
    """Folder, name or address, as the engine resolves it."""
    served_name: str
    batch_size: int
    """Most sequences at once."""
    max_num_batched_tokens: int | None
    """Tokens of one step."""
    kv_bytes: int | None
    memory_fraction: float | None
    """Share of the device's physical memory that it may count as its own, from 0 to 1."""
    fixed: tuple[str, ...] = ()
    """Words that no advice changes: `Engine.fixed_arguments`."""
    service: ServingOptions | None = None
    """None: it is measured, alone with the load generator."""
    left_out: tuple[str, ...] = ()
    """Flags that the engine does not know: `Engine.unknown_flags`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedArguments:
    """What a command line says, as far as it is read back. None: not said, or no number."""

    batch_size: int | None
    kv_bytes: int | None
    max_model_len: int | None
    dtype: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenFlag:
    """A flag that somebody owns (`Engine.owned_flags`), as a command line gives it."""

    name: str
    """Its long name, however it is spelled there."""
    value: str | None
    """None: it takes none, or none follows."""
    at: int
    """Index of its word."""
    words: int
    """How many words it takes, its value's among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """Arguments that somebody else wrote, as the engine's own parser takes them."""

    model: str | None
    """None: they name none."""
    flags: tuple[GivenFlag, ...]
    """In the order of their words."""
    own: tuple[str, ...]
    """The other words, which tune the engine and which nobody here owns."""
    problems: tuple[str, ...]
    """Why nothing can be advised for them, each a sentence: they contradict each other, or go beyond one engine and one GPU."""

    def last(self, name: str) -> GivenFlag | None:
        """The one that counts of a flag that may be given several times."""
        return next((flag for flag in reversed(self.flags) if flag.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advised:
    """What an engine that somebody else runs should have."""

    batch_size: int
    max_num_batched_tokens: int | None
    """None: not known, and what is there stays unless it is less than the batch."""
    kv_bytes: int | None
    """None: not known, and what is there stays."""
    memory_fraction: float | None = None
    """As in Options, of one of several engines on a device. None: it has the device to itself."""
    frees_memory: bool = False
    """Whether somebody wants what it does not need. If not, it keeps a pool that is large enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """What decides the batch of an engine that somebody else started."""

    batch_size: int | None
    """Most sequences at once. None: not known."""
    max_num_batched_tokens: int | None
    """Tokens of one step. None: not known."""
    because: str
    """Where the batch size comes from, or why it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """What a user's arguments say of an engine's memory, for estimates before anything is measured."""

    kv_dtype: str
    """Of the KV cache; `auto`: that of the weights."""
    quantization: str | None
    """What the engine makes of weights while it loads them. None: nothing."""
    not_followed: tuple[str, ...]
    """Flags among them that change memory in a way that no estimate computes."""


class Owner(StrEnum):
    """Who decides what a flag says, where the user may not."""

    MODEL = "Model"
    SERVED_NAME = "ServedName"
    REVISION = "Revision"
    REMOTE_CODE = "RemoteCode"
    MAX_MODEL_LEN = "MaxModelLen"
    DTYPE = "Dtype"
    ADVICE = "Advice"
    OPERATOR = "Operator"
    HTTP = "Http"
    """The operator, which asks every engine over plain HTTP, on one port."""
    METRICS = "Metrics"
    """The operator, which reads the engine's metrics."""
    LOG = "Log"
    """The profiler, which reads the engine's log. Variables may say its level: see `Engine.measuring_environment`."""
    FILE = "File"
    """Nobody: a file of flags may hold any of the others."""
    ONE_GPU = "OneGpu"
    """Nobody: an engine has one GPU or a share of it."""
    API_KEY = "ApiKey"
    """The user, in a variable: an argument is seen by whoever sees the pod, and in documents."""
    CREDENTIALS = "Credentials"
    """The user's Secret for the model's source, for the same reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where an engine answers over HTTP, besides OpenAI's API."""

    health: str
    """200 once it can serve, and as long as it can."""
    metrics: str
    version: str
    models: str
    tokenize: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What an engine says of itself."""

    version: str
    """`unknown` where it does not say."""
    max_model_len: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLog:
    """What an engine's log says of memory. Bytes; None where it says nothing."""

    weights: int | None
    consumed: int | None
    """Weights and everything outside torch, since the process's first look at the device."""
    activation_peak: int | None
    """Without the graphs. None on a GPU: it said nothing of its memory, and no ledger can be made."""
    graphs: int | None
    free_at_start: int | None
    total: int | None
    kv_pool: int | None
    checkpoint: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport:
    """What an engine that has just become ready says of its memory. None: nothing."""

    log: StartLog
    kv_pool_bytes: int | None
    kv_pool_tokens: int | None
    kv_dtype: str
    """`auto`: that of the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """What an engine takes beside weights and KV cache, for estimates before anything is measured."""

    context_bytes: int
    """CUDA context and non-torch memory of one process."""
    sampled_sequences: int
    """Sequences whose logits, in 32 bits and twice, its profiling run keeps."""
    memory_fraction: float
    """Part of the device that one engine takes by default."""


class Engine(Protocol):
    """One inference engine. Stateless: one value of it serves every model, pod and process."""

    name: str
    """As measurement documents have it."""
    image: str
    """Container image by default."""
    image_cuda: tuple[int, int]
    """CUDA version that this image was built for: the driver of a node must run its major version."""
    command: tuple[str, ...]
    """What starts its OpenAI-compatible server in that image. A user's own command must take what this one takes."""
    environment: Mapping[str, str]
    """Variables of its containers, of a measured engine and of a served one; the user's win."""

    def is_started_by(self, command: Sequence[str]) -> bool:
        """Whether a command starts this engine, as far as its words tell."""

    def version_of_image(self, image: str) -> str:
        """The version that an image's name tells; `unknown` where it is not one of the engine's own images."""

    # The command line.

    batch_size_flag: str
    kv_bytes_flag: str
    owned_flags: Mapping[str, Owner]
    """Long names of the flags that follow from spec or advice, or by which the operator asks engines.

    Given by hand they would contradict what was measured. A word that begins one of these names is an abbreviation of it.
    """
    short_flags: Mapping[str, str]
    """Names of owned flags with one hyphen, and the long name of each."""
    free_flags: frozenset[str]
    """Flags that nobody owns although the name of an owned one begins with theirs."""
    secret_flags: frozenset[str]
    """Those owned flags whose values are secrets: never shown, and refused before anything is started with them."""
    key_variable: str | None
    """The variable with the key that clients must send, if there is one. It changes no figure."""
    refused_variables: Mapping[str, str]
    """Variables that contradict what was measured, or let any client stop the engine, and why none of ours may have them."""
    harmless_flags: frozenset[str]
    """Further flags whose values tell what an engine does and never who may use it."""
    harmless_words: frozenset[str]
    """Words of its command, in lower case."""

    def arguments(self, command: Sequence[str], options: Options) -> tuple[str, ...]:
        """All words after `command`, for measuring and for serving: the owned ones last, so that no other wins over them.

        The model may have to come first, or under another name: that depends on the command. A measured engine gets its
        address by `listen`, and every other flag that a served one gets, so that an engine which lacks one fails before
        anything is served. Where the two may differ is said word by word in tests/unit/test_measured_and_served.py.
        """

    optional_flags: Mapping[str, str]
    """Flags of ours without which an engine that does not know them still serves, and what it does then."""

    def unknown_flags(self, version: str, measured_with: Sequence[str]) -> tuple[str, ...]:
        """Those of `optional_flags` that an engine does not know which calls itself so and was measured with these words.

        What it was measured with it knows, whatever it calls itself. Of a version that cannot be read nothing is assumed.
        """

    def fixed_arguments(self, options: ModelOptions, given: Sequence[str]) -> tuple[str, ...]:
        """The words that no advice changes, with the user's own among them: before those that are owned.

        Must say every option that is given: none may be left out in silence.
        """

    def listen(self, host: str, port: int) -> tuple[str, ...]:
        """The words that bind it to an address."""

    def read_arguments(self, words: Sequence[str]) -> ParsedArguments:
        """What a command line says; of a flag that is given twice the last one counts."""

    def arguments_at(self, words: Sequence[str]) -> int | None:
        """Where the arguments begin in a command line that starts its server; None: it starts none.

        Stricter than `is_started_by`: these words are anybody's, and `pip install` may stand among them.
        """

    def is_in_image(self, image: str) -> bool:
        """Whether an image whose entry point is not known starts its server by default, as far as its name tells."""

    def read_command_line(self, arguments: Sequence[str], given_by: Sequence[str]) -> CommandLine:
        """Arguments that somebody else wrote, with what is wrong about them. Nothing is raised.

        `given_by` names for each word who wrote it: a later one may overrule another, not himself.
        """

    def batching_of(self, line: CommandLine, version: str, device_bytes: int, product: str) -> Batching:
        """The batch that it runs with, its defaults included. 0 bytes: the device is not known."""

    def advised_flags(self, line: CommandLine, advised: Advised) -> dict[str, str | None]:
        """What must be set in a command line for the advice to hold, by long name; None: what must be taken out."""

    def memory_options(self, words: Sequence[str]) -> MemoryOptions:
        """What the user's words say of memory, beside what the spec says itself."""

    def measured_arguments(self, words: Sequence[str]) -> list[str]:
        """Those of the user's words that change what is measured, and so belong to a profile's key.

        Must keep what it does not know.
        """

    def measured_variable(self, name: str) -> bool:
        """Whether a variable of the user's changes what is measured. True where that is not known."""

    def headers(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What clients of an engine with this environment send with each request.

        Raises ProfileError (ARGUMENTS) for a key that no client could send.
        """

    def measuring_environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Variables that a measured engine gets over those of its container, so that its log says what is read of it.

        Must change no figure, and hide no value with which a served engine would not start.
        """

    # The device.

    def fraction_while_measuring(self, device_bytes: int, share_bytes: int, context_bytes: int) -> float:
        """`Options.memory_fraction` of one of several engines that are started one after the other, with its share each."""

    def fraction_while_serving(self, engines: int, ledger: Ledger | None) -> float:
        """The same for replicas that may all start at once, on a device that is known only by a profile's ledger."""

    def pinned_to(self, cores: Sequence[int]) -> dict[str, str]:
        """Variables that pin an engine without a GPU to some cores."""

    # Laws and figures of its own.

    smallest_token_budget: int
    """Smallest default of tokens per step, which every GPU can do."""
    overheads: Overheads

    def graph_step(self, batch_size: int) -> int:
        """What batch sizes near this one are multiples of, where a step costs no padding: those captured as CUDA graphs.

        1 for an engine that captures none.
        """

    def sequence_kv_tokens(self, tokens: int) -> int:
        """Tokens of KV cache without which it refuses sequences of so many: whole blocks, and what it keeps empty."""

    # What it says.

    histograms: Mapping[str, str]
    """Names of its histograms in seconds, by key of the SLO metric. Empty for one that shows none."""
    paths: Paths
    remedies: Mapping[Failure, str]
    """What to do about a class of failure, where this engine has better words than `failure.REMEDY`."""

    def read_counters(self, page: str) -> Counters:
        """One scrape. Raises ProfileError (METRICS) that names what is missing or odd: half a page is no page."""

    def read_memory(self, log: str, page: str) -> MemoryReport:
        """From the log of a start and a scrape. Raises ProfileError (METRICS) when the page says nothing of the pool."""

    def read_identity(self, version: object, models: object) -> Identity:
        """From the JSON of `paths.version` and `paths.models`; None for a path that did not answer."""

    def tokenize_request(self, model: str, text: str) -> dict[str, object]:
        """Body for `paths.tokenize`."""

    def read_token_count(self, answer: Mapping[str, object]) -> int:
        """Tokens, from what `paths.tokenize` answered. Raises KeyError, TypeError or ValueError for nonsense."""

    def explain(self, log_tail: str) -> Cause:
        """Why an engine failed, by its last lines.

        Never raises: a log may hold anything.
        """
