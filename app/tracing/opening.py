"""Tracing as the configuration says: off, nothing of OpenTelemetry is imported."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from app.clock import Clock
from app.config.settings import Config, ConfigError
from app.logs.redaction import room_name_filter
from app.tracing.interface import Tracing


@contextmanager
def opened_tracing(config: Config, clock: Clock) -> Iterator[Tracing | None]:
    """None: nothing is traced. At the end the last spans are sent, or given up after a moment.

    Raises:
        ConfigError: OpenTelemetry rejects one of its own variables.
    """
    if config.traces is None:
        yield None
        return
    from app.tracing.export import exporting  # noqa: PLC0415 - it is imported only where it is used
    from app.tracing.tracer import OpenTelemetryTracing  # noqa: PLC0415 - likewise

    hide = room_name_filter(config.livekit_key.secret, is_on=config.log_redact)
    with ExitStack() as stack:
        try:
            provider = stack.enter_context(exporting(config.traces, clock))
        except ValueError as error:
            raise ConfigError([f"OpenTelemetry rejects one of the OTEL_ variables: {error}"]) from error
        yield OpenTelemetryTracing(provider, clock, hide)
