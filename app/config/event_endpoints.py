"""EVENT_WEBHOOKS: where events are sent, and what signs them.

Each entry is a URL with its secrets behind it, `https://example.com/hook#whsec_...`: a URL's fragment is sent
to nobody, and neither `#` nor `,` has a meaning for shells, env files or YAML within a word. Several secrets,
for a rotation, follow each other: `#whsec_new#whsec_old`.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.config.environment import receiver_url

_PREFIX = "whsec_"
#: In bytes, as Standard Webhooks has them.
_SHORTEST, _LONGEST = 24, 64
_LONGEST_NAME = 512
_MOST_ENDPOINTS = 16
_EXAMPLE = "such as #whsec_ and what `openssl rand -base64 32` prints"


@dataclass(frozen=True, kw_only=True)
class EventEndpoint:
    #: The URL without its query: shown in logs, the API and on the dashboard, and stored.
    name: str
    url: str = field(repr=False)
    #: In base64, without prefix; each signs.
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def hidden(self) -> Sequence[str]:
        """What must never be logged."""
        return (*self.secrets, urlsplit(self.url).query)


def event_endpoints(text: str) -> tuple[EventEndpoint, ...]:
    """Raises: ValueError: naming every problem by the number of its entry, without a secret."""
    endpoints: list[EventEndpoint] = []
    problems = []
    for number, entry in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        try:
            endpoints.append(_endpoint(entry))
        except ValueError as problem:
            problems.append(f"entry {number} {problem}")
    if len({endpoint.name for endpoint in endpoints}) < len(endpoints):
        problems.append("two entries have the same address; write the secrets of one behind each other")
    if len(endpoints) > _MOST_ENDPOINTS:
        problems.append(f"it has more than {_MOST_ENDPOINTS} entries")
    if problems:
        raise ValueError("is invalid: " + "; ".join(problems))
    return tuple(endpoints)


def _endpoint(entry: str) -> EventEndpoint:
    url, *secrets = entry.split("#")
    receiver_url(url)
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError("has a user name or a password; the signature shows who sends")
    name = f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"
    if not url.isprintable() or " " in url or len(name) > _LONGEST_NAME:
        raise ValueError(f"has an address with a blank, or of more than {_LONGEST_NAME} characters")
    if not secrets:
        raise ValueError(f"has no secret; add one, {_EXAMPLE}")
    return EventEndpoint(name=name, url=url, secrets=tuple(map(_secret, secrets)))


def _secret(text: str) -> str:
    if not text.startswith(_PREFIX):
        raise ValueError(f"has a secret that does not begin with {_PREFIX}")
    encoded = text.removeprefix(_PREFIX)
    try:
        length = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(f"has a secret that is not base64; take one {_EXAMPLE}") from None
    if not _SHORTEST <= length <= _LONGEST:
        raise ValueError(
            f"has a secret of {length} bytes; it must have {_SHORTEST} to {_LONGEST}, {_EXAMPLE}"
        )
    return encoded
