"""A stage ahead of the next: order, bounds, errors and early ends, with real threads."""

import threading
from contextlib import closing
from itertools import count

import pytest

from pipeline.inversion.prefetch import ahead


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("n", [0, 1, 3])
def test_items_come_in_order_once_each(n):
    assert list(ahead(iter(range(100)), n)) == list(range(100))
    assert list(ahead(iter([]), n)) == []


@pytest.mark.parametrize("n", [1, 2])
def test_no_more_than_n_wait_for_the_consumer(n):
    made, reached = [], threading.Semaphore(0)

    def source():
        for i in count():
            made.append(i)
            reached.release()
            yield i

    with closing(ahead(source(), n)) as items:
        for taken in range(1, 6):
            next(items)
            while len(made) < taken + n + 1:  # those that wait, and the one that finds no room
                reached.acquire()
            assert len(made) == taken + n + 1


def test_without_a_queue_each_item_is_made_when_asked_for_by_whoever_asks():
    threads = []

    def source():
        while True:
            threads.append(threading.current_thread())
            yield

    with closing(ahead(source(), 0)) as items:
        next(items)
        assert threads == [threading.current_thread()]


@pytest.mark.parametrize("n", [0, 2])
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_comes_after_the_items_before_it(n, error):
    def source():
        yield from (1, 2)
        raise error

    items = ahead(source(), n)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        next(items)
    assert caught.value is error


@pytest.mark.parametrize("n", [0, 1])
def test_a_consumer_that_stops_early_releases_and_closes_the_producer(n):
    closed_by = []

    def source():
        try:
            yield from count()
        finally:
            closed_by.append(threading.current_thread())

    items = ahead(source(), n)
    next(items)
    items.close()
    assert len(closed_by) == 1
    assert (closed_by[0] is threading.current_thread()) == (n == 0)


def test_one_that_was_never_asked_starts_no_thread():
    n_before = threading.active_count()
    items = ahead(count(), 2)
    assert threading.active_count() == n_before
    items.close()


def test_stages_in_a_row_end_together_whichever_fails():
    def stage(items, fails_at, name):
        for item in items:
            if item == fails_at:
                raise RuntimeError(name)
            yield item

    for failing in range(3):
        first, second, third = (5 if i == failing else None for i in range(3))
        with (
            closing(ahead(stage(count(), first, "0"), 2)) as a,
            closing(ahead(stage(a, second, "1"), 2)) as b,
            closing(ahead(stage(b, third, "2"), 2)) as c,
        ):
            assert [next(c) for _ in range(5)] == [0, 1, 2, 3, 4]
            with pytest.raises(RuntimeError, match=str(failing)):
                next(c)
