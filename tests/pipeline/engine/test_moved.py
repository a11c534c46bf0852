"""A shard that lies elsewhere than before is not inverted again; one that is not meant can be taken back."""

import os
import shutil

import pytest

from pipeline.engine import run_folder
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError

RUN = "0123456789abcdef"


@pytest.fixture
def project(tmp_path, write_tar):
    """Three shards in two folders, asked for; the first two are finished."""
    for name in ("a/0.tar", "a/1.tar", "b/0.tar"):
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        write_tar(tmp_path / "old" / name, [("a.jpg", name.encode())])
    folder = RunFolder(str(tmp_path / "out"))
    folder.require_writable()
    return folder


def ask(folder, *patterns, done=None, **more):
    """Plan as a run does, record it, and finish what is pending up to ``done``."""
    planned = folder.planned(run_folder.tasks(patterns, RUN, **more))
    folder.write_run_record({}, planned.tasks, overwrite=False, gone=planned.found.gone)
    for task in planned.pending[:done]:
        folder.write(task.output, b"PAR1" * 3)
    return planned


def unfinished(folder):
    return {item["url"] for item in folder.shards()} - {
        item["url"] for item in folder.shards() if item["output"] in folder.committed()
    }


def test_a_copied_project_goes_on(project, tmp_path):
    first = ask(project, f"{tmp_path}/old/*/*.tar", done=2)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    again = ask(project, f"{tmp_path}/new/*/*.tar")
    assert [os.path.basename(old) for old, _ in again.found.moved] == ["0.tar", "1.tar"]
    assert [task.source for task in again.pending] == [f"{tmp_path}/new/b/0.tar"]
    assert again.pending[0].output != first.pending[2].output  # made of its own address
    assert len(project.committed()) == 3
    assert unfinished(project) == set()
    for place in ("new", "old", "new"):  # to and fro
        assert ask(project, f"{tmp_path}/{place}/*/*.tar").pending == []
        assert {item["url"].split("/")[-3] for item in project.shards()} == {place}


def test_a_link_to_a_finished_shard_is_that_shard(project, tmp_path):
    ask(project, f"{tmp_path}/old/a")
    (tmp_path / "link.tar").symlink_to("old/a/0.tar")
    assert ask(project, f"{tmp_path}/link.tar").pending == []
    assert ask(project, f"{tmp_path}/old/a").pending == []


def test_a_copy_with_another_date_is_told(project, tmp_path):
    ask(project, f"{tmp_path}/old/a")
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copyfile)
    planned = project.planned(run_folder.tasks([f"{tmp_path}/new/a"], RUN))
    assert len(planned.pending) == 2
    assert planned.found.unsure == [
        (f"{tmp_path}/old/a/{i}.tar", f"{tmp_path}/new/a/{i}.tar") for i in range(2)
    ]


def test_other_shards_of_the_same_name_are_inverted(project, tmp_path):
    ask(project, f"{tmp_path}/old/a")
    assert len(ask(project, f"{tmp_path}/old/b").pending) == 1  # another date
    for name in ("c", "d", "e"):  # the same content, all of them asked for
        shutil.copytree(tmp_path / "old" / "a", tmp_path / name)
    assert len(ask(project, *(f"{tmp_path}/{name}" for name in "cde")).pending) == 4
    names = ("c", "d", "e", "old/a")
    assert ask(project, *(f"{tmp_path}/{name}" for name in names)).pending == []


def test_a_moved_shard_that_changes_is_refused(project, tmp_path):
    ask(project, f"{tmp_path}/old/a")
    os.rename(tmp_path / "old", tmp_path / "new")
    ask(project, f"{tmp_path}/new/a")
    os.utime(tmp_path / "new" / "a" / "1.tar", (1, 1))
    with pytest.raises(ConfigError, match=r"new/a/1.tar has changed .*; delete 1\..*parquet"):
        ask(project, f"{tmp_path}/new/a")


@pytest.mark.parametrize("version", ["", "size=9 tag=", "size=9"])
def test_a_source_that_tells_no_date_is_not_taken_for_another(project, version):
    old, new = (run_folder.task(f"https://{host}/0.tar", version, RUN) for host in "ab")
    project.write_run_record({}, [old], overwrite=False)
    project.write(old.output, b"PAR1" * 3)
    assert project.planned([new]).pending == [new]
    telling = [run_folder.task(f"https://{h}/1.tar", "size=9 tag=x", RUN) for h in "ab"]
    project.write_run_record({}, telling[:1], overwrite=False)
    project.write(telling[0].output, b"PAR1" * 3)
    assert project.planned([telling[1]]).pending == []


def test_what_was_asked_for_by_mistake_is_taken_back(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ask(project, "old/*/*.tar", done=2)
    with pytest.raises(ConfigError, match=r"a/0.tar is finished; .* delete 0\..*parquet in"):
        project.forget(["old/a/*"])
    assert project.forget(["old/absent.tar"]) == []
    assert project.forget(["old/b/*.tar"], dry_run=True) == [f"{tmp_path}/old/b/0.tar"]
    assert unfinished(project) == {f"{tmp_path}/old/b/0.tar"}
    shutil.rmtree(tmp_path / "old" / "b")  # it need not be there
    assert project.forget(["old/{b,c}/0.tar"]) == [f"{tmp_path}/old/b/0.tar"]
    assert unfinished(project) == set()
    assert len(project.shards()) == 2


def test_a_pattern_can_leave_shards_out(project, tmp_path):
    planned = ask(project, f"{tmp_path}/old/*/*.tar", without=[f"{tmp_path}/old/b/*"])
    assert len(planned.tasks) == 2
    assert all("/a/" in item["url"] for item in project.shards())
