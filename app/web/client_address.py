"""The address a request comes from, as far as the proxies in front of us are known and can be believed."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from app.config.environment import Network

#: More hops than this are made up.
_MOST_HOPS = 16


def client_address(peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The nearest address that is not one of our proxies; "" where the connection has none.

    `forwarded_for` holds the X-Forwarded-For headers, whose right end is the nearest. What stands left of the
    first address that is not ours was written by anybody.
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
    """What one subscriber has: an IPv4 address, or a whole /64 of IPv6."""
    parsed = _parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return address


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with a port perhaps; IPv4 in IPv6's clothes is IPv4."""
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
