"""The cookie of a session room on the wire: whose requests may carry it, and with which attributes."""

from collections.abc import Sequence

from aiohttp import web

from app.web.browser_sessions import MAX_AGE_S

NAME = "agent_lifecycle_room"


def is_welcome(request: web.Request, origins: Sequence[str]) -> bool:
    """Whether the page that asks may have a cookie: one of our own origin, or of a configured one.

    `*` is not enough: it lets every page ask, and no browser lets all of them have cookies. Who is no
    browser, such as the backend that asks for a page, says nothing of a site.
    """
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site in ("same-origin", "none") or request.headers.get("Origin") in origins


def read(request: web.Request) -> str | None:
    """The cookie; None also when there are two: a neighbouring host has set one, and nobody can say which."""
    pairs = [
        pair.strip().partition("=")
        for header in request.headers.getall("Cookie", [])
        for pair in header.split(";")
    ]
    values = [value for name, _, value in pairs if name == NAME]
    return values[0] if len(values) == 1 else None


def attach(response: web.Response, request: web.Request, cookie: str) -> None:
    attributes = [f"{NAME}={cookie}", f"Path={request.path}", f"Max-Age={MAX_AGE_S}", "HttpOnly"]
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        # Browsers that refuse cookies of other sites take one that they keep apart for each page's site.
        attributes += ["SameSite=None", "Secure", "Partitioned"]
    else:
        attributes += ["SameSite=Lax"]
        # Behind a proxy only the page knows that its connection is a secure one.
        attributes += ["Secure"] if request.headers.get("Origin", "").startswith("https://") else []
    # By hand: Python knows `Partitioned` from 3.14 on.
    response.headers.add("Set-Cookie", "; ".join(attributes))
