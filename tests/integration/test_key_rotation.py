"""Key rotation step by step, as in docs/operations.md: no request is rejected at any moment.

The replicas are restarted one after the other. So at each step one has the old configuration and one the new,
and both have to accept every token in use.
"""

import asyncio
import dataclasses
import itertools
from typing import Any

import jwt
import pytest

from app.config.settings import Keypair
from fakes.server import FakeServer
from fakes.webhooks import SignedWebhook, render, sign
from integration.conftest import StartApp
from integration.harness import KEYPAIR as OLD
from integration.harness import ON_BOTH, ON_POSTGRES, STATUS, TOKEN, App, World, member_token, signing_with
from integration.harness import SECOND_KEYPAIR as NEW

#: The settings at each step, and who signs what is in use while a replica changes over to them.
_STEPS: dict[str, tuple[dict[str, Any], tuple[Keypair, ...]]] = {
    "before": ({**signing_with(OLD), "webhook_keys": ()}, (OLD,)),
    "both are known": ({**signing_with(OLD), "webhook_keys": (NEW,)}, (OLD,)),
    "the new one is used": ({**signing_with(NEW), "webhook_keys": (OLD,)}, (OLD, NEW)),
    "the old one is forgotten": ({**signing_with(NEW), "webhook_keys": ()}, (NEW,)),
}


def webhook(world: World, server: FakeServer, signer: Keypair) -> SignedWebhook:
    room = server.rooms["room"]
    body = render("room_started", world.clock.now(), room)
    return SignedWebhook(
        event="room_started", room_name=room.name, body=body, authorization=sign(body, signer)
    )


async def accepts(app: App, world: World, server: FakeServer, signer: Keypair) -> bool:
    """Whether webhooks and participants of one key are accepted; always both or neither."""
    taken = await app.deliver(webhook(world, server, signer))
    seen = await app.call(
        "GET", STATUS, auth=member_token("room", keypair=signer), params={"roomName": "room"}
    )
    assert {taken.status, seen.status} in ({200}, {401}), (taken, seen)
    return taken.status == 200


@ON_POSTGRES
@pytest.mark.usefixtures("worker")
async def test_no_caller_is_rejected_while_replicas_change_keys(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    steps = list(_STEPS.values())
    replicas = [await start_app(**steps[0][0]) for _ in range(2)]
    granted = await replicas[0].dispatch()
    dispatch_id = granted.body["dispatchId"]

    for settings, signers in steps[1:]:
        for number in range(2):
            await replicas[number].stop()
            replicas[number] = await start_app(**settings)
            for replica in replicas:
                for signer in signers:
                    assert await accepts(replica, world, server, signer), (settings, signer.key)
                assert (await replica.status())["dispatchId"] == dispatch_id

    assert not await accepts(replicas[0], world, server, OLD)
    assert len(world.agents("room")) <= 1


@ON_POSTGRES
async def test_a_token_of_one_replica_is_accepted_by_the_other_at_every_step(
    start_app: StartApp,
) -> None:
    """Also by the replica that still has the old configuration."""
    settings = [settings for settings, _ in _STEPS.values()]
    for before, after in itertools.pairwise(settings):
        replicas = await asyncio.gather(start_app(**before), start_app(**after))
        for maker in replicas:
            made = await maker.call("POST", TOKEN, json_body={"room_name": "room"})
            token = made.body["participant_token"]
            for asked in replicas:
                seen = await asked.call("GET", STATUS, auth=token, params={"roomName": "room"})
                assert seen.status == 200, (before, after)
        for replica in replicas:
            await replica.stop()


@ON_BOTH
async def test_a_key_keeps_its_former_secret_beside_its_main_one(
    start_app: StartApp, world: World, server: FakeServer
) -> None:
    former = dataclasses.replace(OLD, secret="former-secret-of-at-least-32-characters")
    server.join("room")
    app = await start_app(webhook_keys=(former,))

    for signer in (OLD, former):
        assert await accepts(app, world, server, signer)
    assert not await accepts(app, world, server, dataclasses.replace(OLD, secret=NEW.secret))
    made = await app.call("POST", TOKEN, json_body={"room_name": "room"})
    assert jwt.decode(made.body["participant_token"], OLD.secret, algorithms=["HS256"])["iss"] == OLD.key


async def test_api_keys_are_changed_without_rejecting_a_caller(start_app: StartApp) -> None:
    old, new = "an-api-key-of-last-year", "an-api-key-of-this-year"
    for keys, good, bad in (((old,), {old}, {new}), ((old, new), {old, new}, set()), ((new,), {new}, {old})):
        app = await start_app(api_keys=keys)
        for key in good:
            assert (await app.call("GET", "/api/livekit/agents", auth=key)).status == 200
        for key in bad:
            assert (await app.call("GET", "/api/livekit/agents", auth=key)).status == 401
        await app.stop()
