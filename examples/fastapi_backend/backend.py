"""A backend that signs people in, gives them tokens for their rooms, and requests agents for them.

The browser holds a session cookie of this backend and a LiveKit token of one room. The API key and LiveKit's
secret stay here.
"""

import datetime as dt
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from agent_lifecycle_client import AgentLifecycleError, AsyncClient, ServiceError, errors
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from livekit import api
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.middleware.sessions import SessionMiddleware

#: Long enough to join; LiveKit renews it for whoever is in.
TOKEN_LIFE = dt.timedelta(minutes=10)
SESSION_LIFE = dt.timedelta(hours=8)
_SHORTEST_SECRET = 32
_PERSON = "person"


class SignIn(BaseModel):
    name: str
    password: str


class RoomRequest(BaseModel):
    room: str


class RoomToken(BaseModel):
    """Named as LiveKit's SDKs name them."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    server_url: str
    participant_token: str


class Agent(BaseModel):
    #: Whether it was in the room already.
    reused: bool


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service = os.environ["AGENT_SERVICE"]
    async with AsyncClient(service, os.environ["AGENT_SERVICE_KEY"]) as app.state.agents:
        yield


def _require_own_page(request: Request) -> None:
    """Refuse what a page of another site sends.

    It can send forms here with the person's cookie, or sign the person in as somebody else.
    Browsers say where a page is from; other programs, such as curl, say nothing.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("Host"):
        raise HTTPException(403, "a page of another site")


def _session_secret() -> str:
    """What signs sessions; who guesses it is signed in as anybody."""
    secret = os.environ.get("SESSION_SECRET", "")
    if len(secret) < _SHORTEST_SECRET:
        raise ValueError(f"SESSION_SECRET has less than {_SHORTEST_SECRET} characters")
    return secret


app = FastAPI(lifespan=_lifespan, dependencies=[Depends(_require_own_page)])
app.add_middleware(
    SessionMiddleware,
    secret_key=_session_secret(),
    max_age=int(SESSION_LIFE.total_seconds()),
    same_site="lax",
    # For development alone: http shows the cookie to everybody on the way.
    https_only=os.environ.get("INSECURE_COOKIE") != "1",
)


def _signed_in(request: Request) -> str:
    person: str | None = request.session.get(_PERSON)
    if person is None:
        raise HTTPException(401, "sign in first")
    return person


def _agents(request: Request) -> AsyncClient:
    agents: AsyncClient = request.app.state.agents
    return agents


Person = Annotated[str, Depends(_signed_in)]
Agents = Annotated[AsyncClient, Depends(_agents)]


def _require_room(person: str, room: str) -> None:
    """Your app's rule: here the rooms of alice are `alice.<anything>`.

    The first dot ends the name, so that a room has one owner: a person with a dot in the name has none.
    """
    owner, dot, topic = room.partition(".")
    if owner != person or not dot or not topic:
        raise HTTPException(403, "this room is somebody else's")


@app.post("/sign-in", status_code=204)
async def sign_in(given: SignIn, request: Request) -> None:
    """Your app's sign-in: here names and passwords come from the environment, as `alice:one,bob:two`."""
    people = dict(pair.split(":", 1) for pair in os.environ["PEOPLE"].split(","))
    expected = people.get(given.name, "")
    if not expected or not hmac.compare_digest(expected.encode(), given.password.encode()):
        raise HTTPException(401, "unknown name or wrong password")
    request.session[_PERSON] = given.name


@app.post("/sign-out", status_code=204)
async def sign_out(request: Request) -> None:
    request.session.clear()


@app.post("/api/token")
async def issue_token(wanted: RoomRequest, person: Person) -> RoomToken:
    """A token with which the person joins the room. It names no agent: `/api/agent` brings that."""
    _require_room(person, wanted.room)
    token = (
        api.AccessToken(os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"])
        .with_identity(person)
        .with_ttl(TOKEN_LIFE)
        .with_grants(api.VideoGrants(room_join=True, room=wanted.room))
    )
    return RoomToken(server_url=os.environ["LIVEKIT_URL"], participant_token=token.to_jwt())


@app.post("/api/agent")
async def request_agent(wanted: RoomRequest, person: Person, agents: Agents) -> Agent:
    """Answers once the agent does; the agent is told who calls."""
    _require_room(person, wanted.room)
    granted = await agents.request_agent(wanted.room, metadata={"person": person}, wait="ready")
    return Agent(reused=granted.reused)


@app.delete("/api/agent", status_code=204)
async def end_agent(room: str, person: Person, agents: Agents) -> None:
    _require_room(person, room)
    await agents.end_agent(room)


@app.exception_handler(AgentLifecycleError)
async def _tell_trouble(_: Request, error: Exception) -> Response:
    """The page is told what the service says, but for what is this backend's own fault."""
    if not isinstance(error, ServiceError):
        return JSONResponse({"code": "agents_unreachable", "retryable": True}, status_code=503)
    if isinstance(error, errors.Unauthenticated | errors.Forbidden):
        return JSONResponse({"code": "misconfigured", "retryable": False}, status_code=502)
    wait = {"Retry-After": f"{error.retry_after_s:.0f}"} if error.retry_after_s else {}
    body = {"code": error.code, "retryable": error.retryable}
    return JSONResponse(body, status_code=error.status, headers=wait)
