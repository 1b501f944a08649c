"""From measurements and advice to what the report shows.

The only place of the report that knows their types. Figures are the measured ones; gains are at the load that was
decided for. Must never word a reason: the advisor's sentences are passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.batching import single_sequence_tokens_per_second
from slm_core.candidates import Candidate, Verdict
from slm_core.latency_model import fit_points, is_full_single
from slm_core.sharing import sharing_of
from slm_core.slo_check import figure_ms, resolve
from slm_core.units import GIB

from slm_operator.advisor.economy import cost_per_million_tokens
from slm_operator.report.loads import loads
from slm_operator.report.scene import Dot, Limits, MemoryBar, Row, Scene, Share, Standing, Tile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slm_core.measurements import Ledger, MeasurementDocument, Point
    from slm_core.slo import Limits as SloLimits
    from slm_core.slo import Slo

    from slm_operator.advisor.advice import Advice, Settings
    from slm_operator.advisor.economy import Price

FIT_STEPS = 60


def scene(document: MeasurementDocument, advice: Advice, slo: Slo, settings: Settings) -> Scene:
    """Everything that the report shows of this advice."""
    limits = resolve(slo, document.points)
    dots = tuple(_dot(candidate, advice, limits) for candidate in advice.candidates)
    one_sequence, _ = single_sequence_tokens_per_second(document.points)
    return Scene(
        subject=document.model.uri,
        setting=_setting(document),
        answer=advice.sentences[0],
        because=advice.sentences[1:],
        warnings=_warnings(document),
        tiles=_tiles(document, advice, limits),
        dots=dots,
        limits=Limits(
            itl_ms=limits.itl_ms,
            itl_words=f"SLO: {limits.itl_statistic.lower()} ITL {limits.itl_ms or 0:.1f} ms",
            in_flight=advice.load.in_flight,
            one_sequence=one_sequence,
            min_efficiency=settings.min_efficiency,
            min_gain=settings.min_gain,
        ),
        fit=_fitted(document.points),
        memory=_memory(document.ledger, advice) if document.ledger else (),
        rows=tuple(
            sorted(
                (_row(c, d, advice.price) for c, d in zip(advice.candidates, dots, strict=True)),
                key=lambda row: row.standing is not Standing.CHOSEN,
            )
        ),
        loads=tuple(loads(document, advice, limits)),
        provenance=_provenance(document),
    )


def _setting(document: MeasurementDocument) -> tuple[str, ...]:
    workload = document.workload
    lengths = f"{workload.input_tokens_mean:.0f} tokens in, {workload.output_tokens_mean:.0f} out"
    engine = f"{document.engine.name} {document.engine.version}"
    return (document.gpu.product, engine, lengths)


def _warnings(document: MeasurementDocument) -> tuple[str, ...]:
    if document.complete:
        return ()
    return (f"The search ended early: {document.incomplete_because or 'no reason was given'}.",)


def _tiles(document: MeasurementDocument, advice: Advice, limits: SloLimits) -> tuple[Tile, ...]:
    tiles = []
    if advice.predicted:
        tiles += [
            Tile(
                label="Throughput of one GPU",
                figure=f"{advice.predicted.throughput_tokens_per_second:,.0f}",
                unit="tok/s",
                note=_comparison(advice),
                tone="up" if (advice.gain or 0.0) > 0 else "down" if (advice.gain or 0.0) < 0 else "",
            ),
            Tile(
                label="Time between tokens",
                figure=f"{advice.predicted.itl_ms:.1f}",
                unit="ms",
                note=f"{limits.itl_statistic.lower()} at most {limits.itl_ms:.1f} ms"
                if limits.itl_ms
                else "no limit asked",
                tone="" if advice.feasible else "down",
            ),
        ]
    if advice.configuration.kv_cache_bytes is not None:
        tiles.append(
            Tile(
                label="KV memory of each engine",
                figure=f"{advice.configuration.kv_cache_bytes / GIB:.1f}",
                unit="GiB",
                note=_sequences(advice.configuration.batch_size),
            )
        )
    tiles += _economy(advice)
    if advice.freed_bytes is not None:
        tiles.append(
            Tile(
                label="Memory left free",
                figure=f"{advice.freed_bytes / GIB:.1f}",
                unit="GiB",
                note=f"of {document.ledger.device_bytes / GIB:.1f} GiB" if document.ledger else "",
            )
        )
    return tuple(tiles)


def _economy(advice: Advice) -> Iterator[Tile]:
    """What a million tokens take, as far as a price or watts are known."""
    price, cost, saved = advice.price, advice.cost_per_million_tokens, advice.saved_gpu_hours_fraction
    note = f"{saved:.1%} of the GPU hours saved" if saved is not None else ""
    if price is not None and cost is not None:
        note = note or f"at {price.per_gpu_hour:g} {price.currency} per GPU hour"
        yield Tile(label="Cost of a million tokens", figure=f"{cost:.3f}", unit=price.currency, note=note)
    elif saved is not None:
        yield Tile(label="GPU hours saved", figure=f"{saved:.1%}", note="against the best single engine", tone="up")
    if advice.joules_per_token is not None:
        yield Tile(label="Energy of a token", figure=f"{advice.joules_per_token:.3f}", unit="J")


def _comparison(advice: Advice) -> str:
    if advice.configuration.engines_per_gpu > 1 and advice.gain is not None:
        return f"{advice.gain:+.1%} against the best single engine"
    return "the best single engine" if advice.best_single else ""


def _sequences(count: int) -> str:
    return "1 sequence" if count == 1 else f"{count} sequences"


def _dot(candidate: Candidate, advice: Advice, limits: SloLimits) -> Dot:
    point = candidate.point
    itl_ms = figure_ms(point.itl_ms, limits.itl_statistic)
    return Dot(
        name=name(point),
        replicas=point.replicas,
        in_flight=point.load,
        full=point.load >= point.full_load,
        throughput=point.throughput_tokens_per_second,
        ci_fraction=point.throughput_ci_fraction,
        itl_ms=point.itl_ms.mean_ms if itl_ms is None else itl_ms,
        tokens_per_joule=1 / point.joules_per_token if point.joules_per_token else None,
        gain=_gain(candidate, advice),
        standing=_standing(candidate, advice),
        on_frontier=point in advice.pareto_frontier,
        failed=candidate.checks[-1].name if candidate.verdict is Verdict.REJECTED else "",
        because=candidate.because,
    )


def name(point: Point) -> str:
    """A point's short name: `96`, or `96 × 2 time-sliced`."""
    size = str(point.batch_size) if point.replicas == 1 else f"{point.batch_size} × {point.replicas}"
    qualifier = sharing_of(point.sharing_mode).qualifier
    sliced = f" {qualifier}" if qualifier else ""
    thin = f" at {point.in_flight}" if point.load < point.full_load else ""
    return size + sliced + thin


def _gain(candidate: Candidate, advice: Advice) -> float | None:
    """Over the best single engine, at the decided load; of a rejected one only where its measurement is at that load."""
    if advice.best_single is None:
        return None
    own = candidate.predicted.throughput_tokens_per_second if candidate.predicted else None
    if own is None and advice.load.in_flight is None:
        own = candidate.point.throughput_tokens_per_second
    return None if own is None else own / advice.best_single.throughput_tokens_per_second - 1


def _standing(candidate: Candidate, advice: Advice) -> Standing:
    point, best = candidate.point, advice.best_single
    if candidate.verdict is Verdict.CHOSEN or (not advice.feasible and _is_advised(point, advice)):
        return Standing.CHOSEN
    if candidate.verdict is Verdict.REJECTED:
        return Standing.REJECTED
    is_best = best is not None and is_full_single(point) and point.batch_size == best.configuration.batch_size
    return Standing.BEST_SINGLE if is_best else Standing.KEPT


def _is_advised(point: Point, advice: Advice) -> bool:
    """Whether a point measures the configuration that is advised."""
    advised = advice.configuration
    measured = (advised.batch_size, advised.engines_per_gpu, advised.sharing_mode)
    return (point.batch_size, point.replicas, point.sharing_mode) == measured


def _fitted(points: Sequence[Point]) -> tuple[tuple[float, float], ...]:
    """The line fitted to one engine's points, between its smallest and largest batch."""
    fit = fit_points(points)
    sizes = [p.batch_size for p in points if is_full_single(p)]
    if fit is None:
        return ()
    low, high = min(sizes), max(sizes)
    batches = sorted({round(low * (high / low) ** (i / FIT_STEPS)) for i in range(FIT_STEPS + 1)})
    return tuple((float(b), fit.predict(b).throughput_tokens_per_second) for b in batches)


def _memory(ledger: Ledger, advice: Advice) -> tuple[MemoryBar, ...]:
    swept = MemoryBar(
        name="One engine with all the memory",
        detail="as the sweep ran it",
        shares=_shares(ledger, 1, ledger.kv_pool_bytes),
    )
    served = advice.configuration
    if served.kv_cache_bytes is None:
        return (swept,)
    engines = "1 engine" if served.engines_per_gpu == 1 else f"{served.engines_per_gpu} engines"
    advised = MemoryBar(
        name="Advised",
        detail=f"{engines}, {_sequences(served.batch_size)} each",
        shares=_shares(ledger, served.engines_per_gpu, served.kv_cache_bytes),
    )
    return (swept, advised)


def _shares(ledger: Ledger, replicas: int, kv_bytes: int) -> tuple[Share, ...]:
    engine = (
        ("weights", "weights", ledger.weights_bytes),
        ("activation", "activations", ledger.activation_peak_bytes),
        ("graphs", "graphs", ledger.graphs_bytes),
        ("context", "context", ledger.context_bytes),
        ("kv", "KV pool", kv_bytes),
    )
    free = max(ledger.device_bytes - replicas * (ledger.fixed_bytes + kv_bytes), 0)
    stretches = [*(engine * replicas), ("free", "free", free)]
    return tuple(Share(kind=kind, name=words, gib=size / GIB) for kind, words, size in stretches if size)


def _row(candidate: Candidate, dot: Dot, price: Price | None) -> Row:
    point = candidate.point
    pool = point.kv_pool_bytes
    return Row(
        standing=dot.standing,
        cells=(
            dot.name,
            "" if point.replicas == 1 else str(point.sharing_mode),
            f"{dot.throughput:,.0f}",
            "" if dot.gain is None else f"{dot.gain:+.1%}",
            f"{dot.itl_ms:.1f}",
            "" if pool is None else f"{point.kv_peak_fraction * pool / GIB:.1f}",
            "" if (cost := cost_per_million_tokens(candidate.figures, price)) is None else f"{cost:.3f}",
            "" if (joules := candidate.figures.joules_per_token) is None else f"{joules:.3f}",
            str(candidate.verdict),
            candidate.because,
        ),
    )


def _provenance(document: MeasurementDocument) -> tuple[tuple[str, str], ...]:
    model, engine, gpu, cost, points = document.model, document.engine, document.gpu, document.cost, document.points
    packs = sum(p.replicas > 1 for p in points)
    confirmed = sum(p.confirmed for p in points)
    spent = f"{cost.gpu_seconds / 60:.1f} GPU minutes, {cost.engine_starts} engine starts" if cost else None
    named = (
        ("Model", model.uri),
        ("Revision", model.revision),
        ("Data type", model.dtype),
        ("Longest sequence", f"{model.max_model_len:,} tokens" if model.max_model_len else None),
        ("Engine", f"{engine.name} {engine.version}"),
        ("Image", engine.image),
        ("Arguments", " ".join(engine.args)),
        ("GPU", gpu.product),
        ("GPU memory", f"{gpu.memory_bytes / GIB:.1f} GiB" if gpu.memory_bytes else None),
        ("GPU UUID", gpu.uuid),
        ("Driver", gpu.driver),
        ("Lengths from", document.workload.source),
        ("Points", f"{len(points)}, of which {packs} packs and {confirmed} confirmed"),
        ("Cost", spent),
        ("Measured at", document.measured_at),
        ("Made by", document.provenance),
        ("Document", document.schema),
    )
    return tuple((label, value) for label, value in named if value)
