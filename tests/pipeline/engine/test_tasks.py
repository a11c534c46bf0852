"""Workers that die, on a real Ray: results in order, and the item that kills them found."""

import os
from itertools import count

import pytest

from pipeline.engine.tasks import Crash, RemoteMap

DEADLY, ONCE = 7, 12


def tenfold(numbers, folder):
    """Ten times each; dies at one number always, at another the first time."""
    for number in numbers:
        seen = os.path.join(folder, str(number))
        if number == DEADLY or (number == ONCE and not os.path.exists(seen)):
            open(seen, "w").close()
            os.abort()
    return [10 * number for number in numbers], 0.5


@pytest.mark.slow
def test_the_item_that_kills_workers_is_found_and_the_others_are_done(joined, tmp_path):
    labour = RemoteMap(tenfold, (str(tmp_path),))
    found = list(labour.map_ordered(range(16), 4, 3))
    assert [item for item, _, _ in found] == list(range(16))
    crashed = {item for item, result, _ in found if isinstance(result, Crash)}
    assert crashed == {DEADLY}
    assert all(result == 10 * item for item, result, _ in found if item != DEADLY)


def test_a_bounded_number_is_begun(joined, tmp_path):
    taken = count()
    labour = RemoteMap(tenfold, (str(tmp_path),))
    # Numbers above those that kill.
    source = (100 + next(taken) for _ in range(40))
    results = labour.map_ordered(source, 2, 3)
    for n_done in range(1, 11):
        next(results)
        n_begun = next(taken)
        taken = count(n_begun)
        assert n_begun <= n_done + 2 * 3 + 1


def test_an_error_of_python_is_no_death(joined, tmp_path):
    labour = RemoteMap(tenfold, (str(tmp_path / "absent"),))
    with pytest.raises(FileNotFoundError):
        list(labour.map_ordered([ONCE], 1, 1))
