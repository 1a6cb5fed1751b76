"""tests/changes.py: which files a change touches."""

import subprocess

import pytest

from tests.changes import NoHistory, changed_files


class Clone:
    """A repository with a commit for each file that is written."""

    def __init__(self, folder):
        self.folder = folder
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words):
        who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        subprocess.run(["git", "-C", str(self.folder), *who, *words], check=True)

    def write(self, name):
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)

    def commit(self, *names):
        for name in names:
            self.write(name)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=one")

    def changed(self, base=None):
        return changed_files(base, root=self.folder)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.delenv("AFTERCOMMIT_BASE", raising=False)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # of a hook that runs the tests
        monkeypatch.delenv(name, raising=False)
    return Clone(tmp_path)


def test_a_change_is_the_last_commit_with_what_is_not_committed_yet(clone):
    clone.commit("first")
    clone.commit("src/second")
    clone.write("new file")
    clone.commit("ö third")
    clone.write("not added")
    (clone.folder / "first").write_text("edited")

    assert clone.changed() == {"first", "new file", "ö third", "not added"}


def test_a_file_that_was_moved_is_two(clone):
    clone.commit("here")
    clone.git("mv", "here", "there")
    clone.commit()

    assert clone.changed() == {"here", "there"}


def test_a_branch_is_compared_with_where_it_left_main(clone):
    clone.commit("first")
    clone.git("update-ref", "refs/remotes/origin/main", "HEAD")
    clone.commit("second")
    clone.commit("third")

    assert clone.changed() == {"second", "third"}


def test_main_itself_is_compared_with_the_commit_before(clone):
    clone.commit("first")
    clone.commit("second")
    clone.git("update-ref", "refs/remotes/origin/main", "HEAD")

    assert clone.changed() == {"second"}


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_the_base_may_be_named(clone, by, monkeypatch):
    for name in ("first", "second", "third"):
        clone.commit(name)
    if by == "environment":
        monkeypatch.setenv("AFTERCOMMIT_BASE", "HEAD~2")

    assert clone.changed("HEAD~2" if by == "argument" else None) == {"second", "third"}


def test_a_shallow_clone_knows_nothing(clone, tmp_path):
    for name in ("first", "second", "third"):
        clone.commit(name)
    shallow = tmp_path / "shallow"
    url = f"file://{clone.folder}"
    subprocess.run(["git", "clone", "--quiet", "--depth=2", url, str(shallow)], check=True)

    with pytest.raises(NoHistory, match="the clone is shallow"):
        changed_files(root=shallow)


def test_the_first_commit_and_an_unknown_base_have_no_answer(clone):
    clone.commit("first")

    for base in (None, "no-such-branch"):
        with pytest.raises(NoHistory):
            clone.changed(base)


def test_a_folder_without_a_repository_has_no_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    with pytest.raises(NoHistory, match="not a git repository"):
        changed_files(root=tmp_path)


def test_without_git_there_is_no_answer(clone, monkeypatch):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(NoHistory, match="git does not run"):
        clone.changed()
