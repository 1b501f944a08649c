"""What the flags of somebody's engine cost, for a person, for a pull request and for a script.

Must never compute: figures and sentences are the advisor's, the change is that of `patches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slm_operator.advisor.expectation import Reach
from slm_operator.advisor.explain import HOW
from slm_operator.advisor.plain import figures_values
from slm_operator.advisor.present import Standing
from slm_operator.cli.render.answer import answer as advice_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from slm_core.candidates import Predicted, Rates
    from slm_core.engines.base import Batching
    from slm_core.measurements import MeasurementDocument
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Advice, Settings
    from slm_operator.advisor.present import Difference, Present
    from slm_operator.cli.inputs.workloads.base import RunningEngine
    from slm_operator.cli.inputs.workloads.watched import Doing
    from slm_operator.cli.render.patches.forms import Change
    from slm_operator.cli.render.patches.operations import Operation

SCHEMA = "slm-operator.io/advice-for/v1"
STYLES = {Standing.KEEPS: "", Standing.BREAKS: "bold yellow", Standing.UNKNOWN: "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All that is known at the end."""

    running: RunningEngine
    document: MeasurementDocument
    slo: Slo
    settings: Settings
    advice: Advice
    batching: Batching
    now: Present
    difference: Difference | None
    """None: nothing to compare with."""
    flags: Mapping[str, str | None]
    """What is to be set, None: to be taken out."""
    cautions: tuple[str, ...]
    patch: Sequence[Operation]
    change: Change
    doing: Doing | None = None
    """What its own metrics say. None: nobody named them."""


def headline(answer: Answer) -> str:
    """The answer in one sentence."""
    subject, now, batch = answer.running.subject, answer.now, answer.now.batch_size
    if not answer.patch:
        return f"{subject} runs with what is advised."
    runs = "a batch that is not known" if batch is None else f"at most {batch} sequences at once"
    if now.standing is Standing.BREAKS:
        return f"{subject} runs with {runs} and breaks the SLO: {_flags_in_words(answer)} would keep it."
    return f"{subject} runs with {runs}: {_flags_in_words(answer)} is advised."


def _flags_in_words(answer: Answer) -> str:
    return " ".join(f"{name} {value}" for name, value in answer.flags.items() if value is not None)


def sentences(answer: Answer) -> Iterator[str]:
    """The headline, both figures, the difference, the cautions."""
    yield headline(answer)
    now, advised = answer.now, answer.advice.predicted
    if answer.batching.batch_size is not None:
        yield f"Now: {answer.batching.because} ({answer.batching.batch_size})."
    yield _capital(f"{_figures(now.figures)}{now.because}.")
    if advised is not None:
        how = HOW.get(advised.source, "as measured")
        yield f"Advised: {_numbers(advised)}, {how}."
    if answer.difference is not None and answer.patch:
        yield difference_in_words(answer.difference)
    if answer.doing is not None:
        yield from doing_in_words(answer.doing)
    if out := [name for name, value in answer.flags.items() if value is None]:
        yield f"To be taken out, because the advice would not hold with it: {' '.join(out)}."
    yield from answer.cautions


def difference_in_words(change: Difference) -> str:
    """In words and per cent."""
    more, later = change.throughput_fraction, change.itl_fraction
    rate = f"{abs(more):.1%} {'more' if more >= 0 else 'fewer'} tokens/s"
    if change.is_noise:
        rate = f"as many tokens/s ({more:+.1%}, within the noise of {change.noise_fraction:.1%})"
    return f"The change: {rate}, at a mean ITL that is {abs(later):.1%} {'longer' if later >= 0 else 'shorter'}."


def doing_in_words(doing: Doing) -> Iterator[str]:
    """What it does, with which lengths, and what was measured there."""
    window, figures, there = doing.window, doing.figures, doing.expected
    yield (
        f"Over {doing.seconds:.0f} s one GPU of it does {_numbers(figures)} with {figures.in_flight:.1f} requests in flight, "
        f"of {window.input_tokens_mean:.0f} tokens in and {window.output_tokens_mean:.0f} out."
    )
    if doing.has_other_lengths:
        yield "Measured were other lengths, so this says nothing of the figures: measure with these (--input-tokens, --output-tokens)."
    elif there is None:
        yield "With so many in flight and such a batch nothing was measured."
    else:
        bound = "at least " if there.reach is Reach.BOUND else ""
        change = f", of which that is {1 + (doing.throughput_fraction or 0.0):.0%}" if not bound else ""
        yield f"Measured engines make {bound}{_numbers(there)} there{change}."


def _figures(figures: Predicted | None) -> str:
    return "" if figures is None else f"{_numbers(figures)}, "


def _numbers(figures: Rates) -> str:
    return f"{figures.throughput_tokens_per_second:,.0f} tokens/s at a mean ITL of {figures.itl_ms:.1f} ms"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def show(answer: Answer) -> None:
    """For a person at a terminal."""
    from rich.padding import Padding  # noqa: PLC0415 - rich is for people
    from rich.text import Text  # noqa: PLC0415

    from slm_operator.cli.render.terminal import bare_table, candidates, console  # noqa: PLC0415

    out = console()
    first, *rest = sentences(answer)
    out.print(Text(first, style="bold yellow" if answer.now.standing is Standing.BREAKS else "bold"))
    for sentence in rest:
        out.print(Padding(Text(sentence), (0, 0, 0, 2), expand=False))
    out.print()
    table = bare_table()
    for heading in ("", "NOW", "ADVISED"):
        table.add_column(heading, no_wrap=True)
    for row in rows(answer):
        table.add_row(*row)
    out.print(table)
    out.print()
    out.print(candidates(answer.advice.candidates, answer.advice.price))


def rows(answer: Answer) -> Iterator[tuple[str, str, str]]:
    """Flags and figures, side by side."""
    for name, value in answer.flags.items():
        given = answer.running.line.last(name)
        yield name, "not given" if given is None else given.value or "", "to be taken out" if value is None else value
    both = (answer.now.figures, answer.advice.predicted)
    rates = ["not known" if one is None else f"{one.throughput_tokens_per_second:,.0f}" for one in both]
    latencies = ["not known" if one is None else f"{one.itl_ms:.1f}" for one in both]
    yield "tokens/s", rates[0], rates[1]
    yield "mean ITL, ms", latencies[0], latencies[1]
    yield "SLO", str(answer.now.standing), str(Standing.KEEPS)


def as_markdown(answer: Answer) -> str:
    """For the body of a pull request."""
    first, *rest = sentences(answer)
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows(answer))
    points = "".join(f"- {one}\n" for one in (*rest, *answer.advice.sentences))
    return f"{first}\n\n| | now | advised |\n|---|---|---|\n{table}\n{points}\nThe evidence, all that was measured: report.html.\n"


def as_json(answer: Answer) -> dict[str, Any]:
    """For scripts: every key is always there; what is not known is null."""
    running, now, change = answer.running, answer.now, answer.difference
    return {
        "schema": SCHEMA,
        "workload": {
            "kind": running.subject.kind, "name": running.subject.name, "namespace": running.subject.namespace,
            "container": running.container.name, "image": running.container.image,
        },
        "now": {
            "batchSize": now.batch_size, "batchSizeBecause": answer.batching.because, "standing": str(now.standing),
            "because": now.because,
            "figures": None if now.figures is None else figures_values(now.figures) | {"source": str(now.figures.source)},
        },
        "doing": None if answer.doing is None else _doing_values(answer.doing),
        "flags": dict(answer.flags),
        "difference": None if change is None else {
            "throughput": change.throughput_fraction, "itl": change.itl_fraction, "noise": change.noise_fraction,
        },
        "cautions": list(answer.cautions),
        "sentences": list(sentences(answer)),
        "patch": list(answer.patch),
        "advice": advice_values(answer.advice),
    }  # fmt: skip


def _doing_values(doing: Doing) -> dict[str, Any]:
    window, there = doing.window, doing.expected
    return {
        "seconds": doing.seconds,
        "inFlightPerGpu": doing.figures.in_flight,
        "inputTokensMean": window.input_tokens_mean,
        "outputTokensMean": window.output_tokens_mean,
        "figures": figures_values(doing.figures),
        "expected": None if there is None else figures_values(there) | {"expectedAs": str(there.reach)},
        "throughputFraction": doing.throughput_fraction,
    }
