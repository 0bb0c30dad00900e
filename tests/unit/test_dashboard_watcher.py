"""One open page's events: in order, and never more than a few of them."""

from app.dashboard.subscriber import MAX_WAITING, Watcher


async def test_events_come_in_order() -> None:
    watcher = Watcher()
    watcher.offer(b"one")
    watcher.offer(b"two")
    assert [await watcher.next(), await watcher.next()] == [b"one", b"two"]


async def test_one_that_does_not_keep_up_is_closed_and_holds_nothing_more() -> None:
    watcher = Watcher()
    for number in range(MAX_WAITING):
        watcher.offer(b"%d" % number)
    assert not watcher.lags
    watcher.offer(b"one too many")
    assert watcher.lags
    assert await watcher.next() is None
    watcher.offer(b"later")
    assert await watcher.next() is None


async def test_a_watcher_that_was_closed_does_not_lag() -> None:
    watcher = Watcher()
    watcher.offer(b"one")
    watcher.close()
    assert await watcher.next() is None
    assert not watcher.lags
