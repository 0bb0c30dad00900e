"""LiveKit's webhooks: a room is opened, and the service asked whether it heard of it."""

import asyncio
from collections import Counter
from http import HTTPStatus

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, skipped, warning
from app.cli.doctor.network import WEBHOOK_PATH, is_our_service
from app.cli.doctor.worker import scratch_room

_METRIC = "agent_lifecycle_webhooks_total"
_REFUSED = "unauthenticated"
_LOOK_EVERY_S = 0.2
#: LiveKit posts at once, and after a failure again within a second or two.
_PATIENCE_S = 5.0
_TIMEOUT = aiohttp.ClientTimeout(total=8)


async def check_delivery(context: CheckContext) -> Findings:
    base_url = context.config.public_url or context.local_url
    if await is_our_service(context.http, base_url) is None:
        yield skipped(f"the service does not run at {base_url}", "start it, and run doctor again")
        return
    before = await _webhooks(context, base_url)
    if before is None:
        yield skipped(
            f"{base_url}/metrics says nothing without a key", "METRICS_PUBLIC=true lets doctor look"
        )
        return
    async with scratch_room(context):
        yield await _await_webhook(context, base_url, before)


async def _await_webhook(context: CheckContext, base_url: str, before: Counter[str]) -> Finding:
    came: Counter[str] = Counter()
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not came:
                await asyncio.sleep(_LOOK_EVERY_S)
                came = (await _webhooks(context, base_url) or Counter()) - before
    except TimeoutError:
        return _silence(context, base_url)
    if set(came) == {_REFUSED}:
        return fault(
            f"webhooks come to {base_url}, but are signed with a key that the service does not know",
            "webhook.api_key in LiveKit's YAML has to be LIVEKIT_API_KEY, or one of LIVEKIT_WEBHOOK_KEYS",
        )
    return ok(f"LiveKit's webhooks come to {base_url}")


def _silence(context: CheckContext, base_url: str) -> Finding:
    message = f"a room was opened, and no webhook of LiveKit's came to {base_url}"
    url = f"{context.config.public_url or 'https://<this service>'}{WEBHOOK_PATH}"
    fix = (
        f"LiveKit's YAML:  webhook: {{api_key: {context.config.livekit_key.key}, urls: [{url}]}}"
        "   (LiveKit Cloud: Settings, Webhooks)"
    )
    # Of several replicas another one may have taken it.
    return fault(message, fix) if context.database_file else warning(message, fix)


async def _webhooks(context: CheckContext, base_url: str) -> Counter[str] | None:
    """How many webhooks the service has seen, by what became of them; None when it does not tell."""
    async with context.http.get(f"{base_url}/metrics", timeout=_TIMEOUT) as response:
        text = await response.text()
    if response.status != HTTPStatus.OK:
        return None
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _METRIC:
                counts[sample.labels["result"]] += round(sample.value)
    return counts
