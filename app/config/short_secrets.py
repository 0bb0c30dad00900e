"""The check that no secret of LiveKit's can be guessed."""

from collections.abc import Iterator, Mapping
from typing import Any

#: A shorter secret can be guessed from any token, without asking anybody.
_LEAST_SECRET = 16
#: That of `livekit-server --dev` is `secret`.
_LEAST_SECRET_IN_DEV = 6


def short_secrets(values: Mapping[str, Any], *, is_dev: bool) -> Iterator[str]:
    """A problem for each of LiveKit's secrets among the settings that is too short."""
    least = _LEAST_SECRET_IN_DEV if is_dev else _LEAST_SECRET
    why = f"shorter than {least} characters, which can be guessed"
    if not is_dev:
        why += f" (LIFECYCLE_ENV=dev allows {_LEAST_SECRET_IN_DEV}, for `livekit-server --dev`)"
    if "livekit_api_secret" in values and len(values["livekit_api_secret"]) < least:
        yield f"LIVEKIT_API_SECRET is {why}"
    for number, pair in enumerate(values.get("webhook_keys", ()), start=1):
        if len(pair.secret) < least:
            yield f"LIVEKIT_WEBHOOK_KEYS has in pair {number} a secret {why}"
