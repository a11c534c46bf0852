"""Shards by the names that people give them: odd folders, wide globs, lists from elsewhere, links."""

import os

import pytest

from pipeline.errors import ConfigError
from pipeline.storage import lists
from pipeline.storage.listing import expand, real_paths

ODD = ["set{a,b}", "run{1", "photos [2023]", "a, b", "~", "@x", "#1", "q'\"q", " s ", "w*", "e\\x"]


@pytest.fixture
def tar(tmp_path, write_tar, monkeypatch):
    """Writes a shard below the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        return write_tar(tmp_path / name, [("a.jpg", b"1")])

    return write


@pytest.mark.parametrize("folder", ODD)
def test_what_exists_is_taken_as_it_is_named(tar, folder):
    shards = [tar(f"{folder}/x/{i:03}.tar") for i in range(2)]
    names = [f"{folder}/x/00{i}.tar" for i in range(2)]
    assert list(expand(names)) == shards
    assert list(expand([f"{folder}/x/*.tar"])) == shards
    assert list(expand([f"{folder}/x/{{000..001}}.tar"])) == shards
    assert list(expand([f"{folder}/*/{{000,001}}.tar"])) == shards
    assert list(expand([f"{folder}/x"])) == shards


def test_braces_in_the_names_of_shards(tar):
    shards = [tar("x{1}0.tar"), tar("x{1}1.tar")]
    assert list(expand(["x{1}*.tar"])) == shards
    shards = [tar("y{0.tar")]
    assert list(expand(["y{*.tar"])) == shards


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_holds_names_of_every_kind(tar, tmp_path, end, encoding):
    names = [f"{folder}/ä 0.tar" for folder in ODD if folder not in (" s ", "q'\"q")]
    shards = [tar(name) for name in names]
    (tmp_path / "list.txt").write_bytes((end.join(names) + end + end).encode(encoding))
    assert list(expand(["@list.txt"])) == shards
    quoted = ['"' + name.replace('"', '""') + '"' for name in [*names, " s /0 .tar", "q'\"q/0.tar"]]
    shards += [tar(" s /0 .tar"), tar("q'\"q/0.tar")]
    (tmp_path / "list.txt").write_bytes(end.join(quoted).encode(encoding))
    assert list(expand(["@list.txt"])) == shards


def test_lists_and_quoted_patterns_know_the_home_folder(tar, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shard = tar("home/d/0.tar")
    (tmp_path / "list").write_text("~/d/0.tar\n")
    for pattern in ("~/d/*.tar", "@list", "~/d"):
        assert list(expand([pattern])) == [shard]


def test_a_list_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "empty").write_text("\n\r\n")
    (tmp_path / "half").write_bytes(b"\xff\xfea")
    for name, says in (
        ("absent", "cannot read the list"),
        ("empty", "is empty"),
        ("half", "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=says):
            expand([f"@{tmp_path / name}"])


def test_names_that_are_not_utf8_are_refused_in_words_that_can_be_printed(tar, tmp_path):
    name = os.fsdecode(b"caf\xe9/0.tar")
    tar(name)
    (tmp_path / "list").write_bytes(b"caf\xe9/0.tar\n")
    for pattern in (name, f"{os.path.dirname(name)}/*.tar", "@list"):
        with pytest.raises(ConfigError, match="not named in UTF-8; rename") as error:
            expand([pattern])
        assert str(error.value).isascii()


def test_names_between_commas_are_quoted_as_in_csv():
    text = ' a b ,"c, d",e"f,"g""h" , ,"i\nj",~,"'
    assert lists.between_commas(text) == ["a b", "c, d", 'e"f', 'g"h', "i\nj", "~", '"']


def test_a_shard_by_two_names_is_one(tar, tmp_path):
    first = tar("s/0.tar")
    (tmp_path / "link.tar").symlink_to("s/0.tar")
    (tmp_path / "folder").symlink_to("s")
    other = tar("t/0.tar")
    names = [
        f"/{first}",
        "./s//0.tar",
        "link.tar",
        "folder/0.tar",
        "t/../s/0.tar",
        f"file://{first}",
    ]
    assert list(expand([*names, "t/0.tar"])) == [first, other]
    assert list(expand(["link.tar", *names])) == [str(tmp_path / "link.tar")]  # by the first name
    assert list(expand(["folder/*.tar", "s"])) == [str(tmp_path / "folder" / "0.tar")]
    assert list(real_paths([str(tmp_path / "link.tar"), "s3://b//x.tar"])) == [
        first,
        "s3://b//x.tar",
    ]


def test_what_is_no_tar_is_told_at_once(tar, tmp_path):
    shard = tar("data/00000.tar")
    for name in ("00000_stats.json", "00000.parquet", "x.txt"):
        (tmp_path / "data" / name).write_text("{}")
    with pytest.raises(ConfigError, match=r"also matches what is not a tar \(00000.parquet, 0"):
        expand(["data/*"])
    with pytest.raises(ConfigError, match="00000_stats.json is not a tar; leave it out"):
        expand(["data/00000.tar", "data/00000_stats.json"])  # as the shell expands data/*
    with pytest.raises(ConfigError, match="is not a tar; leave it out"):
        expand(["data/*.[jp]*"])
    (tmp_path / "data" / "sub").mkdir()
    with pytest.raises(ConfigError, match=r"not a tar \(sub\)"):
        expand(["data/s*"])
    os.rename(shard, tmp_path / "data" / "00000")  # no name of a tar, but one
    assert list(expand(["data/00000"])) == [str(tmp_path / "data" / "00000")]
