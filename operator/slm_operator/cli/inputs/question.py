"""The SLO and the settings of a command line, and the advice on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slm_core.sharing import asked_mode
from slm_core.slo import Slo
from slm_core.tuning import tuned

from slm_operator.advisor.advice import Objective, Settings
from slm_operator.advisor.advise import advise
from slm_operator.advisor.economy import Price
from slm_operator.advisor.validate import AdviceError
from slm_operator.cli.errors import Refused

if TYPE_CHECKING:
    from argparse import Namespace

    from slm_core.measurements import MeasurementDocument

    from slm_operator.advisor.advice import Advice


def slo_of(arguments: Namespace) -> Slo:
    """What was asked of latency. Without a limit on ITL, the default of the API."""
    return Slo.read(arguments).or_default()


def settings_of(arguments: Namespace) -> Settings:
    """How to judge."""
    return Settings(
        **tuned(arguments),
        objective=Objective(arguments.objective),
        mode=asked_mode(arguments.mode),
        engines_per_gpu=arguments.engines_per_gpu,
        max_engines_per_gpu=arguments.max_engines_per_gpu,
        concurrency=arguments.concurrency,
        requests_per_second=arguments.requests_per_second,
        gpu_memory_bytes=arguments.gpu_memory_bytes,
        price=price_of(arguments),
    )


def price_of(arguments: Namespace) -> Price | None:
    """What the GPU costs; None where nobody said."""
    given: float | None = arguments.price_per_gpu_hour
    return None if given is None else Price(per_gpu_hour=given, currency=arguments.currency)


def advice_on(document: MeasurementDocument, slo: Slo, settings: Settings) -> Advice:
    """Ask the advisor. Raises Refused with a line for each contradiction in the question."""
    try:
        return advise(document, slo, settings)
    except AdviceError as error:
        raise Refused(str(error)) from None
