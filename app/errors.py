"""What can go wrong, each with the status and the code that a caller sees, and the one place that maps it."""


class ServiceError(Exception):
    """Anything that is answered with other than success."""

    status = 500
    code = "internal"
    retryable = False
    retry_after_s: int | None = None


class Malformed(ServiceError):
    """The request cannot be read."""

    status, code = 400, "malformed"


class Unauthenticated(ServiceError):
    """Nobody has said who asks, or it is not true."""

    status, code = 401, "unauthenticated"


class Forbidden(ServiceError):
    """The token is good, but for something else."""

    status, code = 403, "forbidden"


class NotFound(ServiceError):
    status, code = 404, "not_found"


class TooSlow(ServiceError):
    """The body did not come in time."""

    status, code, retryable = 408, "too_slow", True


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class Invalid(ServiceError):
    """A field can be read, but is wrong."""

    status, code = 422, "invalid"


class RateLimited(ServiceError):
    """This caller has made too many calls; nothing was looked at."""

    status, code, retryable = 429, "rate_limited", True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LiveKitRefused(ServiceError):
    """LiveKit answered that it will not do it; asking again is no use until something is changed."""

    status, code = 502, "livekit_refused"


class Busy(ServiceError):
    """The service is stopping, or its queue is full."""

    status, code, retryable, retry_after_s = 503, "busy", True, 1


class LiveKitUnavailable(ServiceError):
    """LiveKit could not be asked, so nothing is known and nothing is changed."""

    status, code, retryable, retry_after_s = 503, "livekit_unavailable", True, 5


class DatabaseUnavailable(ServiceError):
    status, code, retryable, retry_after_s = 503, "database_unavailable", True, 5


class LiveKitUnreachable(LiveKitUnavailable):
    """No connection to LiveKit came about: whatever it was to do, it has not done."""


class LiveKitTimeout(LiveKitUnavailable):
    """LiveKit did not answer in time: what it was asked to do may or may not have been done."""

    status, code = 504, "livekit_timeout"
