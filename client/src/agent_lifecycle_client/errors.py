"""Errors: one class for each code of the service, and one for a service that cannot be reached."""

from typing import ClassVar

from agent_lifecycle_client.models import QueuePlace


class AgentLifecycleError(Exception):
    """The call has failed. All errors of this package that are not mistakes of the caller."""

    #: Whether the same call may succeed later.
    retryable: bool = False


class ServiceUnreachable(AgentLifecycleError):
    """No answer that can be read: no connection, a broken one, or none in time; `__cause__` is httpx's."""

    retryable = True


class UnexpectedAnswer(AgentLifecycleError):
    """Something else has answered, such as a proxy, or a service that this version does not understand."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = status in (502, 503, 504)


class ServiceError(AgentLifecycleError):
    """The service has answered with an error; a code without a class of its own is one of these."""

    #: The code of the class.
    CODE: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str,
        retryable: bool,
        request_id: str,
        retry_after_s: float | None = None,
        queue: QueuePlace | None = None,
    ) -> None:
        """`request_id` finds the call in the service's log."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retryable = retryable
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.queue = queue

    def __str__(self) -> str:
        return f"{super().__str__()} ({self.code}, request {self.request_id})"


class Malformed(ServiceError):
    """The body is not JSON."""

    CODE = "malformed"


class Unauthenticated(ServiceError):
    """The credential is missing, expired or unknown."""

    CODE = "unauthenticated"


class Forbidden(ServiceError):
    """The credential is valid, but not for this."""

    CODE = "forbidden"


class NotFound(ServiceError):
    """There is no such dispatch or worker."""

    CODE = "not_found"


class MemoryOff(ServiceError):
    """The service keeps no memories of conversations."""

    CODE = "memory_off"


class TooSlow(ServiceError):
    """The body did not arrive in time."""

    CODE = "too_slow"


class Conflict(ServiceError):
    """There is no agent to hold or resume."""

    CODE = "conflict"


class OnHold(ServiceError):
    """A human has taken over."""

    CODE = "on_hold"


class AgentEnded(ServiceError):
    """The agent was ended before it answered."""

    CODE = "agent_ended"


class TooLarge(ServiceError):
    """The body exceeds the limit."""

    CODE = "too_large"


class Invalid(ServiceError):
    """A field is wrong; the message names it."""

    CODE = "invalid"


class RateLimited(ServiceError):
    """There were too many calls with this credential."""

    CODE = "rate_limited"


class AtCapacity(ServiceError):
    """The agent, or the caller, has as many as the policy allows; after a wait, `queue` has the place."""

    CODE = "at_capacity"


class Internal(ServiceError):
    """An unexpected error of the service; its log has it."""

    CODE = "internal"


class LiveKitRefused(ServiceError):
    """LiveKit has rejected the service's call."""

    CODE = "livekit_refused"


class LiveKitUnavailable(ServiceError):
    """The service does not reach LiveKit."""

    CODE = "livekit_unavailable"


class LiveKitTimeout(ServiceError):
    """LiveKit did not answer in time; the service finishes the work in the background."""

    CODE = "livekit_timeout"


class DatabaseUnavailable(ServiceError):
    """The service does not reach its database."""

    CODE = "database_unavailable"


class Busy(ServiceError):
    """The service is overloaded, or it stops."""

    CODE = "busy"


class NoWorker(ServiceError):
    """No worker has taken the job in three dispatches."""

    CODE = "no_worker"


class CrashLoop(ServiceError):
    """The agent has failed too often."""

    CODE = "crash_loop"


class JoinTimeout(ServiceError):
    """The agent does not answer yet; the service goes on waiting for it."""

    CODE = "join_timeout"


BY_CODE = {error.CODE: error for error in ServiceError.__subclasses__()}
