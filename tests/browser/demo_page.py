"""The demo page as somebody uses it."""

from urllib.parse import quote

from playwright.async_api import Frame, Locator, Page, Request, expect

from devstack.service import Service
from devstack.truth import eventually

VOICE, TEXT = "Join with microphone", "Text only"

_READY_MS = 20_000
_ANSWER_MS = 10_000


class Demo:
    def __init__(self, page: Page, service: Service, room: str) -> None:
        self.page = page
        self._url = f"{service.base_url}/demo?room={quote(room)}"
        self._under_way: set[Request] = set()
        page.on("request", self._note_begin)
        page.on("requestfinished", self._note_end)
        page.on("requestfailed", self._note_end)
        page.on("framenavigated", self._forget_requests)

    @property
    def status(self) -> Locator:
        return self.page.locator("#status")

    @property
    def notice(self) -> Locator:
        """What is the matter, when something is."""
        return self.page.locator("#notice-sentence")

    @property
    def answers(self) -> Locator:
        return self.page.locator(".said.agent")

    @property
    def api_key(self) -> Locator:
        return self.page.get_by_label("API key")

    @property
    def asks(self) -> bool:
        """Whether the page waits for the service, but for the call that lasts until the agent answers."""
        return any('"wait"' not in (request.post_data or "") for request in self._under_way)

    async def open(self) -> None:
        await self.page.goto(self._url)

    async def join(self, button: str = VOICE) -> None:
        await self.press(button)
        await self.wait_until_ready()

    async def wait_until_ready(self, *, timeout_s: float = _READY_MS / 1_000) -> None:
        await expect(self.page.locator("#send")).to_be_enabled(timeout=timeout_s * 1_000)

    async def ask(self, text: str) -> str:
        """Write `text`, and give the agent's answer, which repeats it.

        Writes it again if none comes: an agent ignores a text whose sender it does not know yet, see
        `Person.ask`.
        """
        await self.write(text)
        try:
            return await self.answer_to(text)
        except AssertionError:
            await self.write(text)
            return await self.answer_to(text)

    async def write(self, text: str) -> None:
        message = self.page.get_by_label("Message to the agent")
        await message.fill(text)

        async def is_taken() -> bool:
            # At a moment in which the agent is not ready, the page keeps the text for another press.
            await message.press("Enter")
            return await message.input_value() == ""

        await eventually(is_taken, f"the page has taken {text!r}")

    async def answer_to(self, text: str) -> str:
        answer = self.answers.filter(has_text=f": {text}")
        await expect(answer).to_be_visible(timeout=_ANSWER_MS)
        return (await answer.inner_text()).removeprefix("Agent").strip()

    async def press(self, button: str) -> None:
        await self.page.get_by_role("button", name=button).click()

    async def refresh(self) -> None:
        await self.page.reload(wait_until="commit")

    def _note_begin(self, request: Request) -> None:
        self._under_way.add(request)

    def _note_end(self, request: Request) -> None:
        self._under_way.discard(request)

    def _forget_requests(self, _: Frame) -> None:
        """Those of a page that was left may report no end."""
        self._under_way.clear()
