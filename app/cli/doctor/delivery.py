"""Check of webhook delivery: opens a room and waits for its webhook at the service."""

import asyncio
from collections import Counter
from http import HTTPStatus

from prometheus_client.parser import text_string_to_metric_families

from app.cli.doctor.context import CheckContext
from app.cli.doctor.findings import Finding, Findings, fault, ok, skipped, warning
from app.cli.doctor.network import TIMEOUT, WEBHOOK_PATH, is_our_service
from app.cli.doctor.worker import scratch_room
from app.livekit.answers import read_within

_METRIC = "agent_lifecycle_webhooks_total"
_REFUSED = "unauthenticated"
_LOOK_EVERY_S = 0.2
#: LiveKit posts at once, and retries within a second or two.
_PATIENCE_S = 5.0


async def check_delivery(context: CheckContext) -> Findings:
    base_url = context.config.public_url or context.local_url
    if await is_our_service(context.http, base_url) is None:
        yield skipped(f"the service is not running at {base_url}", "start it and run doctor again")
        return
    before = await _webhooks(context, base_url)
    if before is None:
        yield skipped(f"{base_url}/metrics needs an API key", "set METRICS_PUBLIC=true to let doctor read it")
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
            f"webhooks arrive at {base_url}, but are signed with a key that the service does not know",
            "set webhook.api_key in LiveKit's YAML to LIVEKIT_API_KEY or to a key in LIVEKIT_WEBHOOK_KEYS",
        )
    return ok(f"LiveKit's webhooks arrive at {base_url}")


def _silence(context: CheckContext, base_url: str) -> Finding:
    message = f"a room was opened, but no webhook from LiveKit arrived at {base_url}"
    url = f"{context.config.public_url or 'https://<this service>'}{WEBHOOK_PATH}"
    fix = (
        f"add to LiveKit's YAML:  webhook: {{api_key: {context.config.livekit_key.key}, urls: [{url}]}}"
        "   (LiveKit Cloud: Settings, Webhooks)"
    )
    # With several replicas, another one may have received it.
    return fault(message, fix) if context.database_file else warning(message, fix)


async def _webhooks(context: CheckContext, base_url: str) -> Counter[str] | None:
    """The service's count of webhooks by result; None if it does not show its metrics."""
    async with context.http.get(f"{base_url}/metrics", timeout=TIMEOUT) as response:
        text = (await read_within(response)).decode("utf-8", "replace")
    if response.status != HTTPStatus.OK:
        return None
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _METRIC:
                counts[sample.labels["result"]] += round(sample.value)
    return counts
