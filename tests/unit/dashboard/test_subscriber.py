"""The events of one open page: in order and bounded."""

from app.dashboard.subscriber import MAX_WAITING, Subscriber


async def test_events_come_in_order() -> None:
    subscriber = Subscriber()
    subscriber.offer(b"one")
    subscriber.offer(b"two")
    assert [await subscriber.next(), await subscriber.next()] == [b"one", b"two"]


async def test_a_subscriber_that_does_not_keep_up_is_closed_and_emptied() -> None:
    subscriber = Subscriber()
    for number in range(MAX_WAITING):
        subscriber.offer(b"%d" % number)
    assert not subscriber.lags
    subscriber.offer(b"one too many")
    assert subscriber.lags
    assert await subscriber.next() is None
    subscriber.offer(b"later")
    assert await subscriber.next() is None


async def test_a_closed_subscriber_does_not_lag() -> None:
    subscriber = Subscriber()
    subscriber.offer(b"one")
    subscriber.close()
    assert await subscriber.next() is None
    assert not subscriber.lags
