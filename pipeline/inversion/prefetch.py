"""One stage of a pipeline ahead of the next: an iterator, iterated by a thread of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")


class _End:
    """Comes after the last item: what ended the producer, None for its natural end."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterator[T], n: int) -> Generator[T]:
    """The items in order; up to ``n`` wait for the consumer while a thread makes the next.

    An error of ``items`` is raised here, after the items that came before it. Closing this iterator ends the
    thread, once the item that it is at is done, and closes ``items`` in it: no thread is left behind or
    waits on a full queue. With ``n = 0`` there is no thread: each item is made when it is asked for.
    """
    if n == 0:
        yield from items
        return
    made: SimpleQueue[T | _End] = SimpleQueue()
    room, is_closed = Semaphore(n), Event()

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                room.acquire()
                if is_closed.is_set():
                    break
                made.put(item)
            if close := getattr(items, "close", None):
                close()
        except BaseException as caught:
            error = caught
        made.put(_End(error))

    # A daemon: a process that is told to leave does not wait for a stage.
    thread = Thread(target=produce, name=f"ahead: {getattr(items, '__name__', '')}", daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            room.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        is_closed.set()
        room.release()
        thread.join()
