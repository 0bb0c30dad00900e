"""The client's address, as reported by the proxies that are trusted."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import web

from app.config.environment import Network

#: A longer chain of proxies is forged.
_MOST_HOPS = 16


def address_of(request: web.BaseRequest, trusted: Sequence[Network]) -> str:
    """See `client_address`."""
    return client_address(request.remote, request.headers.getall("X-Forwarded-For", []), trusted)


def is_from_trusted_proxy(request: web.BaseRequest, trusted: Sequence[Network]) -> bool:
    address = _parse(request.remote or "")
    return address is not None and any(address in network for network in trusted)


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The nearest address that is not a trusted proxy; "" where the connection has no address.

    `forwarded_for` holds the X-Forwarded-For headers; their right end is the nearest hop. The first address
    from the right that is not trusted is the client's: anybody may have written what is left of it.
    """
    address = _parse(peer or "")
    if address is None:
        return ""
    hops = ",".join(forwarded_for).split(",")[-_MOST_HOPS:]
    while hops and any(address in network for network in trusted):
        farther = _parse(hops.pop())
        if farther is None:
            break
        address = farther
    return str(address)


def neighbourhood(address: str) -> str:
    """The network of one subscriber: an IPv4 address, or a whole /64 of IPv6."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return address


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port; an IPv4-mapped IPv6 address becomes IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address
