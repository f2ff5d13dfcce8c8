"""Results by name: directories, and what revisions of a real repository committed."""

import os
import subprocess

import pytest

from benchmark.errors import UserError
from benchmark.revisions import open_results


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Three commits: no results, a file of results, another text in it; the last two are tagged."""
    root = tmp_path / "checkout"
    root.mkdir()

    def git(*words):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e@x", *words], cwd=root, check=True)

    git("init", "-q", "-b", "trunk")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    git("tag", "empty")
    file = root / "results/runs/cifar/run/result.json"
    file.parent.mkdir(parents=True)
    for text in ("old", "new"):
        file.write_text(text)
        git("add", "results")
        git("commit", "-q", "-m", text)
        git("tag", text)
    monkeypatch.chdir(root)
    return root


def content(name):
    with open_results(name) as source:
        return (source.results / "runs/cifar/run/result.json").read_text()


def test_a_revision_is_what_was_committed(checkout):
    (checkout / "results/runs/cifar/run/result.json").write_text("not committed")
    assert [content(name) for name in ("old", "trunk", "trunk~1", "results")] == [
        "old",
        "new",
        "old",
        "not committed",
    ]


def test_a_revision_is_found_from_a_folder_below(checkout, monkeypatch):
    monkeypatch.chdir(checkout / "results")
    assert content("old") == "old"


def test_a_revision_is_labelled_with_its_commit(checkout):
    commit = subprocess.run(["git", "rev-parse", "old"], capture_output=True, text=True).stdout.strip()
    with open_results("old") as by_tag, open_results(commit[:10]) as by_commit:
        assert by_tag.name == f"old ({commit[:7]})"
        assert by_commit.name == commit[:10]


def test_the_temporary_folder_goes_and_the_checkout_stays(checkout):
    with open_results("old") as source:
        assert source.results.exists()
    assert not source.results.parents[1].exists()
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    assert status.stdout == ""


def test_a_directory_goes_before_a_revision(checkout):
    (checkout / "old/runs").mkdir(parents=True)
    with open_results("old") as source:
        assert (source.name, str(source.results)) == ("old", "old")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"'nowhere' is neither a directory nor a revision of .*checkout$"),
        ("old:results", "neither a directory nor a revision"),
        ("--all", "neither a directory nor a revision"),
        ("", "neither a directory nor a revision"),
        ("empty", r"revision empty \(\w{7}\) has no results/runs: no results were committed in it"),
        (".", r"directory \. holds no results \(it has no folder runs\); did you mean results\?"),
        ("results/runs/cifar", r"directory results/runs/cifar holds no results \(it has no folder runs\)$"),
    ],
)
def test_mistakes(checkout, name, message):
    with pytest.raises(UserError, match=message), open_results(name):
        pass


def test_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match=r"'HEAD' is no directory, and .* is no git checkout"), open_results("HEAD"):
        pass


def test_without_git(checkout, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(UserError, match=r"git cannot be started .*; without it, name results directories"):
        content("old")
    assert content("results") == "new"
