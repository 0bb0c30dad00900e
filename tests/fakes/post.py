"""The way of a webhook from LiveKit to the service, on which it can be lost, held back or come twice."""

from fakes.webhooks import SignedWebhook


class Post:
    """What LiveKit has sent and nobody has received yet, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[SignedWebhook] = []
        self.lost: list[SignedWebhook] = []
        #: Whether everything is lost from now on.
        self.lossy = False

    def __call__(self, webhook: SignedWebhook) -> None:
        (self.lost if self.lossy else self.waiting).append(webhook)

    def take(self) -> list[SignedWebhook]:
        """Everything that waits; it waits no more."""
        taken, self.waiting = self.waiting, []
        return taken
