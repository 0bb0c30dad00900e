"""Errors, each with the status and the code that a caller sees."""


class ServiceError(Exception):
    """A failure that the caller sees as an error response."""

    status = 500
    code = "internal"
    retryable = False
    retry_after_s: int | None = None


class Malformed(ServiceError):
    """The request cannot be parsed."""

    status, code = 400, "malformed"


class Unauthenticated(ServiceError):
    """Missing or invalid credentials."""

    status, code = 401, "unauthenticated"


class Forbidden(ServiceError):
    """The credentials are valid, but not for this."""

    status, code = 403, "forbidden"


class NotFound(ServiceError):
    status, code = 404, "not_found"


class MemoryOff(ServiceError):
    """This service keeps no memories of conversations."""

    status, code = 404, "memory_off"


class MemoryForgotten(ServiceError):
    """The conversation is over, or was forgotten: nothing more of it is kept."""

    status, code = 409, "memory_forgotten"


class MemoryTaken(ServiceError):
    """Another agent has taken over the conversation."""

    status, code = 409, "memory_taken"


class OnHold(ServiceError):
    """A human has taken over: no agent comes until the room is resumed."""

    status, code = 409, "on_hold"


class AgentEnded(ServiceError):
    """The agent that the call waits for was ended."""

    status, code, retryable = 409, "agent_ended", True


class TooSlow(ServiceError):
    """The body did not arrive in time."""

    status, code, retryable = 408, "too_slow", True


class Conflict(ServiceError):
    """The request does not fit the state of the room's agent."""

    status, code = 409, "conflict"


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class Invalid(ServiceError):
    """The input can be parsed, but a field is wrong."""

    status, code = 422, "invalid"


class RateLimited(ServiceError):
    """The caller has made too many calls; this one was not processed."""

    status, code, retryable = 429, "rate_limited", True

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AtCapacity(ServiceError):
    """The agent, or the caller, has as many agents as its policy allows; nothing was made."""

    status, code, retryable, retry_after_s = 429, "at_capacity", True, 5

    def __init__(
        self, message: str, *, cap: str, position: int | None = None, waited_ms: int | None = None
    ) -> None:
        """`position`, `waited_ms`: of a call that has waited."""
        super().__init__(message)
        self.cap = cap
        self.position = position
        self.waited_ms = waited_ms


class CallerGone(ServiceError):
    """The caller has hung up, so nobody reads this; the status is that of nginx for the same."""

    status, code = 499, "caller_gone"


class LiveKitRefused(ServiceError):
    """LiveKit rejected the call; a retry is of no use until something is changed."""

    status, code = 502, "livekit_refused"


class Busy(ServiceError):
    """The service is stopping, or its queue is full."""

    status, code, retryable, retry_after_s = 503, "busy", True, 1


class LiveKitUnavailable(ServiceError):
    """LiveKit could not be asked: nothing is known, and nothing was changed."""

    status, code, retryable, retry_after_s = 503, "livekit_unavailable", True, 5


class DatabaseUnavailable(ServiceError):
    status, code, retryable, retry_after_s = 503, "database_unavailable", True, 5


class NoWorker(ServiceError):
    """LiveKit has offered the job, and no worker has taken it."""

    status, code, retryable, retry_after_s = 503, "no_worker", True, 5


class CrashLoop(ServiceError):
    """Workers take the job, and the agent fails each time."""

    status, code, retryable, retry_after_s = 503, "crash_loop", True, 10


class JoinTimeout(ServiceError):
    """A worker may have the job, but its agent does not answer in time; the service goes on waiting."""

    status, code, retryable = 504, "join_timeout", True


class LiveKitUnreachable(LiveKitUnavailable):
    """The connection to LiveKit failed, so the call had no effect."""


class LiveKitTimeout(LiveKitUnavailable):
    """LiveKit did not answer in time; the call may or may not have had an effect."""

    status, code = 504, "livekit_timeout"
