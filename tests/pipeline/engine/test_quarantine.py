"""Which sample kills its workers: what each death teaches, and what a watched worker leaves behind."""

import numpy as np
import pytest

from pipeline.engine import quarantine
from pipeline.engine.quarantine import CrashRecorder, CrashSearch, narrowed
from pipeline.records import AlignedFace, Sample, Status


def after(*places):
    search = CrashSearch()
    for place in places:
        search = narrowed(search, place)
    return search


def test_a_batch_then_one_sample_twice():
    assert after((8, 15)) == CrashSearch(batch=(8, 15))
    assert after((8, 15), (9, 9)) == CrashSearch(batch=(8, 15), sample=9)
    assert after((8, 15), (9, 9), (9, 9)) == CrashSearch(batch=(8, 15), crashed=(9,))


def test_what_happened_once_is_not_believed():
    assert after((8, 15), (9, 9), (10, 10)).crashed == ()
    assert after((8, 15), (9, 9), (0, 7), (9, 9)).crashed == ()
    assert after(None, (3, 3), None, (3, 3)).crashed == (3,)


def test_two_samples_of_one_batch_are_both_found():
    search = after((8, 15), (9, 9), (9, 9), (12, 12), (12, 12))
    assert search.crashed == (9, 12)


@pytest.mark.parametrize(
    ("search", "n_deaths", "hopeless"),
    [
        (CrashSearch(), 8, False),
        (CrashSearch(), 9, True),
        (CrashSearch(crashed=(1, 2)), 14, False),
        (CrashSearch(crashed=(1, 2)), 15, True),
        (CrashSearch(crashed=tuple(range(9))), 3, True),  # then no sample is the cause
    ],
)
def test_the_search_ends(search, n_deaths, hopeless):
    assert search.is_exhausted(n_deaths) is hopeless


def test_a_note_is_found_once(tmp_path):
    recorder = CrashRecorder(str(tmp_path), "s.parquet", CrashSearch())
    assert quarantine.pop_last_position(str(tmp_path), "s.parquet") is None
    recorder.note(8, 15)
    recorder.note(9, 9)
    assert quarantine.pop_last_position(str(tmp_path), "other.parquet") is None
    assert quarantine.pop_last_position(str(tmp_path), "s.parquet") == (9, 9)
    assert quarantine.pop_last_position(str(tmp_path), "s.parquet") is None


def test_half_a_note_is_none(tmp_path):
    CrashRecorder(str(tmp_path), "s.parquet", CrashSearch()).note(8, 15)
    (tmp_path / "_run" / "careful" / "s.parquet").write_bytes(b"[8, ")
    assert quarantine.pop_last_position(str(tmp_path), "s.parquet") is None


def test_crashed_samples_lose_their_image_and_suspects_are_tried(tmp_path):
    recorder = CrashRecorder(str(tmp_path), "s.parquet", CrashSearch(batch=(1, 2), crashed=(1,)))
    found = list(recorder.samples(Sample(i, f"{i}", b"image") for i in range(3)))
    assert [sample.status for sample in found] == [Status.OK, Status.CRASHED, Status.OK]
    assert [sample.image for sample in found] == [b"image", None, b"image"]
    pixels = np.zeros((2, 2, 3), np.uint8)
    faces = [AlignedFace(s.index, s.key, s.status, image_u8=s.image and pixels) for s in found]
    assert [face.index for face in recorder.suspected(faces)] == [2]
