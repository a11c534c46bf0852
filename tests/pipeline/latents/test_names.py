"""Whatever a key holds, its file stays below its folder and no two rows share one."""

import pytest

from generators.files import atomic
from pipeline.latents.names import RowNames, plain_key, shard_folder


def test_names_stay_below_the_folder_and_have_no_dot():
    def name(key, **facts):
        return RowNames(with_dots=False).path({"key": key, "face": 0, "sample_index": 3, **facts})

    assert name("a/b c") == "a/b c"
    assert name("/../x/./y.z") == "x/y_z"
    assert name("..") == "sample_3"
    assert name("a", face=2) == "a_face2"
    assert name("a", direction="smile/../age", strength=-1.5) == "a_smile____age-1_5"


def test_names_lead_nowhere_and_never_meet():
    names = RowNames()

    def path(key, **facts):
        return names.path({"key": key, "face": 0, "sample_index": 7, **facts})

    hostile = ["../../etc/passwd", "/abs", "..", "", "a\0b/c:d", "é/ü", "x" * 400]
    found = [path(key) for key in hostile]
    assert not any(part in ("..", ".") for name in found for part in name.split("/"))
    assert not any(name.startswith("/") for name in found)
    assert "é/ü" in found
    same = [path(key) for key in ("a?b", "a*b", "a?b", "A?B")]
    assert len({name.lower() for name in same}) == 4
    assert path("k", face=1, direction="smile@0-3", strength=-2.0) == "k_face1_smile@0-3-2"


def test_two_shards_of_one_name_have_a_folder_each():
    stems = {}
    given = [
        shard_folder(s, f"000.{i:016x}.{'0' * 8}.parquet", stems)
        for i, s in enumerate(("a/0.tar", "b/0.tar"))
    ]
    assert given == ["0", f"0.{1:016x}"]


@pytest.mark.parametrize("letter", ["L", "写", "é", "\U0001f600", "\udce4"])
def test_long_names_fit_into_a_file_system(letter, tmp_path):
    names = RowNames()
    row = {"key": f"{letter * 300}/{letter * 300}", "face": 12, "sample_index": 0}
    row |= {"direction": letter * 300, "strength": -1.25}
    one, two = names.path(row), names.path(row)
    assert one != two
    for name in (one, two):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        atomic.write_bytes(path, b"x")
        assert path.read_bytes() == b"x"


def test_keys_are_found_as_people_say_them():
    assert plain_key("./anna") == plain_key("anna") == "anna"
    # As the reader escapes a name that is not UTF-8, and as a command line brings it.
    assert plain_key("caf\\xe9/a") == plain_key("caf\udce9/a") == "caf\\xe9/a"
