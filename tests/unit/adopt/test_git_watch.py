"""Commits made in real repositories while a wrapped run is open."""

from __future__ import annotations

import os
import time

import pytest

from claude_loop.adopt import git_details
from claude_loop.adopt.git_watch import GitWatch
from claude_loop.clock import ManualClock
from claude_loop.events import Event
from tests.unit.adopt.world import CLOCK, TIDY, Git


@pytest.fixture
def git(world):
    return Git(world.cwd)


def watch_of(world, grace=0.0, clock=CLOCK):
    return GitWatch(world.hub, world.wrapped(), clock, TIDY, grace=grace)


async def hashes(world):
    return [event.data["commit_hash"] for event in await world.told("git")]


async def next_second():
    """Reflogs count in seconds: what was done before a run began must lie a second back."""
    time.sleep(1.01 - time.time() % 1)


async def test_commits_since_the_run_began_are_told_with_what_they_changed(world, git):
    git.init()
    git.commit("before the run")
    await next_second()
    await world.begin()
    await world.publish("story.started", story_id="US-001")
    watch = watch_of(world)
    await watch.look()
    assert await world.told("git") == []
    first = git.commit("feat: [US-001] - Add", "a.py", "1\n2\n")
    second = git.commit("tidy up", "a.py", "3\n")
    await watch.look()
    await watch.look()
    one, two = await world.told("git")
    assert one.data == {
        "commit_hash": first, "subject": "feat: [US-001] - Add", "branch": "main", "insertions": 2, "deletions": 0,
        "files": ["a.py"], "mentions": ["US-001"],
    }  # fmt: skip
    assert (two.data["commit_hash"], two.data["insertions"]) == (second, 1)
    assert [(event.story_id, event.run_id, event.type) for event in (one, two)] == [
        ("US-001", "R1", "commit.created")
    ] * 2


async def test_a_commit_of_the_same_second_before_the_run_is_not_its_own(world, git):
    git.init()
    git.commit("just before the run")
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    assert await world.told("git") == []
    later = git.commit("the first of the run")
    await watch.look()
    assert await hashes(world) == [later]


async def test_nor_is_it_where_the_first_look_comes_after_the_next_commit(world, git):
    git.init()
    await next_second()
    before = git.commit("just before the run")
    await world.begin()
    first = git.commit("the first of the run")
    second = git.commit("the second of the run")
    watch = watch_of(world)
    await watch.look()
    assert before not in await hashes(world)
    assert await hashes(world) == [first, second]
    times = [event.at for event in await world.told("git")]
    assert times == sorted(set(times))  # of one second, and told apart all the same


async def test_a_commit_that_says_a_year_of_its_own_is_told_now_and_keeps_nobody_waiting(world, git):
    git.init()
    await next_second()
    await world.begin()
    watch = watch_of(world)
    told = [git.commit(f"of {at}", at=at) for at in (300_000_000_000, 4_102_444_800)]
    told.append(git.commit("of now"))
    os.utime(world.cwd / ".git/logs/HEAD", (5e9, 5e9))  # the file's own time may be anybody's, too
    await watch.look()
    now = CLOCK.now_us() // 1000
    assert await hashes(world) == told
    assert all(event.at <= now for event in await world.told("git"))


async def test_a_repository_may_come_later_and_begin_without_commits(world, git, monkeypatch):
    monkeypatch.setattr("claude_loop.adopt.git_watch._SEARCH_SECONDS", 0.0)
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    git.init()
    await watch.look()
    assert await world.told("git") == []
    root = git.commit("the first")
    await watch.look()
    assert await hashes(world) == [root]


async def test_amends_are_told_and_count_once_and_rebases_checkouts_and_pulls_are_not_told(world, git, tmp_path):
    git.init()
    git.commit("base")
    git("branch", "other")
    await next_second()
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    first = git.commit("work")
    await watch.look()
    git("commit", "-q", "--amend", "-m", "work, said better")
    amended = git("rev-parse", "HEAD")
    await watch.look()
    assert await hashes(world) == [first, amended]
    assert (await world.told("git"))[1].data["amends"] == first
    (run,) = (await world.hub.log.entities("run/")).values()
    assert (run["commits"], run["last_commit"]["hash"]) == (1, amended)

    git("checkout", "-q", "other")
    elsewhere = git.commit("on the other branch", "b.py")
    git("checkout", "-q", "main")
    git("rebase", "-q", "other")
    git("checkout", "-q", "--detach")
    detached = git.commit("on no branch", "c.py")
    git("checkout", "-q", "main")
    git("merge", "-q", "--ff-only", detached)
    await watch.look()
    assert await hashes(world) == [first, amended, elsewhere, detached]
    assert (await world.told("git"))[3].data.get("branch") in {None, "main"}


async def test_a_restart_and_an_expired_reflog_tell_nothing_twice(world, git):
    git.init()
    await world.begin()
    watch = watch_of(world)
    made = [git.commit(f"number {n}") for n in range(3)]
    await watch.look()
    await watch_of(world).look()
    git("reflog", "expire", "--expire=now", "--all")
    await watch.look()
    made.append(git.commit("after the reflog was cut"))
    await watch.look()
    assert await hashes(world) == made


async def test_a_commit_that_somebody_asks_for_while_the_last_ones_are_told_is_told_at_the_next_look(world, git):
    git.init()
    await world.begin()
    watch = watch_of(world, grace=1000)
    await watch.look()
    (run,) = await world.wrapped().current()
    tell, made = watch._tell, []

    async def ends_meanwhile(watched, **more):
        await tell(watched, **more)
        made.append(git.commit("the last one"))
        await world.end()
        assert [each.commit_hash for each in await watch.untold(run)] == made

    watch._tell = ends_meanwhile
    await watch.look()
    assert await hashes(world) == []
    watch._tell = tell
    await watch.look()
    assert (await hashes(world), await watch.untold(run)) == (made, [])


async def test_the_last_commits_are_found_when_the_run_ends_and_later_ones_are_nobodys(world, git):
    git.init()
    await world.begin()
    watch = watch_of(world, grace=1000)
    await watch.look()
    last = git.commit("the last one")
    await world.end()
    await watch.look()
    assert await hashes(world) == [last]
    later = time.time() + 3
    git.commit("by a person, a little later", at=later)
    os.utime(world.cwd / ".git/logs/HEAD", (later, later))
    await watch.look()
    await watch_of(world).look()
    assert await hashes(world) == [last]


@pytest.mark.parametrize("is_found_before_the_end", [False, True])
async def test_a_commit_just_after_the_end_is_nobodys(world, git, is_found_before_the_end):
    git.init()
    await world.begin()
    watch = watch_of(world, grace=1000)
    await watch.look()
    git.commit("the last one")
    ended_at = CLOCK.now_us()
    git.commit("by the next run")
    if is_found_before_the_end:
        await watch.look()
    await world.end(ended_at=ended_at)
    await watch.look()
    assert [event.data["subject"] for event in await world.told("git")] == ["the last one"]


async def test_what_a_script_commits_when_it_has_said_that_it_is_done_is_of_its_run(world, git):
    git.init()
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    await world.publish("prd.completed", {"success": True}, run_id="R1")
    made = git.commit("the last one")
    await watch.look()
    assert await hashes(world) == [made]


async def test_whoever_knows_more_goes_first(world, git):
    git.init()
    await world.begin()
    clock = ManualClock()
    watch = watch_of(world, 0.3, clock)
    hash_ = git.commit("work")
    await watch.look()
    hook = Event("commit.created", {"commit_hash": hash_[:7]}, id="h.1+commit", project="shop", prd_id="PRD-1",
                 session_id="s", source="claude")  # fmt: skip
    await world.hub.publish([hook])
    clock.advance(0.35)
    await watch.look()
    assert await world.told("git") == []
    (run,) = (await world.hub.log.entities("run/")).values()
    assert run["commits"] == 1


async def test_a_commit_belongs_to_the_story_that_was_at_work_then(world, git):
    git.init()
    await world.begin()
    watch = watch_of(world)
    await world.publish("story.started", story_id="US-1")
    git.commit("nobody named")
    time.sleep(0.05)
    await world.publish("story.completed", {"success": True}, story_id="US-1")
    await world.publish("story.started", story_id="US-2")
    await watch.look()
    assert [event.story_id for event in await world.told("git")] == ["US-1"]
    git.commit("a late one for US-1")
    await watch.look()
    assert [event.story_id for event in await world.told("git")] == ["US-1", "US-1"]


async def test_work_trees_made_during_the_run_belong_to_it_but_not_those_of_others(world, git, tmp_path):
    git.init()
    git.commit("base")
    git("worktree", "add", "-q", str(tmp_path / "old"), "-b", "old")
    git("worktree", "add", "-q", str(tmp_path / "others"), "-b", "others")
    await next_second()
    await world.begin()
    await world.begin("R2", cwd=str(tmp_path / "others"), prd_id="PRD-2")
    watch = watch_of(world)
    await watch.look()
    git("worktree", "add", "-q", str(tmp_path / "new"), "-b", "new")
    ours = Git(tmp_path / "new").commit("in the new tree", "n.py")
    Git(tmp_path / "old").commit("in the old tree", "o.py")
    theirs = Git(tmp_path / "others").commit("in their tree", "t.py")
    await watch.look()
    told = {event.data["commit_hash"]: (event.run_id, event.data["branch"]) for event in await world.told("git")}
    assert told == {ours: ("R1", "new"), theirs: ("R2", "others")}


async def test_nothing_of_the_repository_runs_and_nothing_in_it_changes(world, git, tmp_path):
    git.init()
    ran = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {ran}\n")
    trap.chmod(0o755)
    await world.begin()
    hash_ = git.commit("work", "a.txt")
    for key in ("core.fsmonitor", "diff.external", "core.pager", "diff.trap.textconv", "diff.trap.command",
                "log.showSignature", "gpg.program"):  # fmt: skip
        git("config", key, "true" if key == "log.showSignature" else str(trap))
    (world.cwd / ".gitattributes").write_text("* diff=trap\n")
    (world.cwd / ".git/hooks").mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        os.symlink(trap, world.cwd / f".git/hooks/{hook}")
    before = {path: path.stat().st_mtime_ns for path in (world.cwd / ".git").rglob("*")}
    await watch_of(world).look()
    assert {path: path.stat().st_mtime_ns for path in (world.cwd / ".git").rglob("*")} == before
    assert not ran.exists()
    (told,) = await world.told("git")
    assert (told.data["commit_hash"], told.data["files"]) == (hash_, ["a.txt"])


async def test_a_repository_that_cannot_be_read_keeps_nobody_else_waiting(world, git, tmp_path):
    git.init()
    git("commit", "-q", "--allow-empty", "-m", "begin")
    (tmp_path / "broken").mkdir()
    broken = Git(tmp_path / "broken")
    broken.init()
    (tmp_path / "broken/.git/logs").mkdir(exist_ok=True)
    (tmp_path / "broken/.git/logs/HEAD").symlink_to("HEAD")  # a circle: ELOOP, whoever asks
    await world.begin("A", cwd=str(tmp_path / "broken"), prd_id="PRD-2")
    await world.begin("B")
    hash_ = git.commit("work")
    await watch_of(world).look()
    assert hash_ in await hashes(world)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
@pytest.mark.parametrize("trusted", [False, True])
async def test_a_repository_of_somebody_else_is_believed_only_if_git_does(world, git, tmp_path, monkeypatch, trusted):
    git.init()
    git.commit("work")
    os.chown(world.cwd / ".git", 1, 1)
    os.chown(world.cwd, 1, 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if trusted:
        (tmp_path / ".gitconfig").write_text(f"[safe]\n\tdirectory = {world.cwd}\n")
    await world.begin(started_at=0)
    await watch_of(world).look()
    assert len(await world.told("git")) == trusted


@pytest.mark.parametrize("broken", ["absent", "refusing", "hanging"])
async def test_without_gits_help_a_commit_has_its_hash_and_subject(world, git, tmp_path, monkeypatch, broken):
    git.init()
    await world.begin()
    hash_ = git.commit("feat: US-1")
    programs = tmp_path / "programs"
    programs.mkdir()
    if broken != "absent":
        said = "echo 'fatal: detected dubious ownership' >&2; exit 128" if broken == "refusing" else "exec sleep 60"
        (programs / "git").write_text(f"#!/bin/sh\n{said}\n")
        (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs) if broken == "absent" else f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(git_details, "SECONDS", 0.3)
    await watch_of(world).look()
    (told,) = await world.told("git")
    assert told.data == {"commit_hash": hash_, "subject": "feat: US-1", "branch": "main", "mentions": ["US-1"]}


async def test_no_process_is_started_while_nothing_changes(world, git, monkeypatch):
    git.init()
    git.commit("base")
    await next_second()
    await world.begin()
    watch = watch_of(world)
    await watch.look()
    git.commit("work")
    await watch.look()

    async def never(*_arguments):
        raise AssertionError("git was started")

    monkeypatch.setattr("claude_loop.adopt.git_watch.details", never)
    began = time.process_time()
    for _ in range(100):
        await watch.look()
    assert (time.process_time() - began) / 100 < 0.02


async def test_a_secret_in_a_subject_stays_out_of_the_log(world, git):
    git.init()
    await world.begin()
    git.commit("use sk-ant-api03-" + "A1b2C3d4" * 6)
    await watch_of(world).look()
    (told,) = await world.told("git")
    assert "A1b2C3d4" not in told.json


async def test_a_repository_in_which_git_hangs_is_asked_once_in_a_while_only(world, git, tmp_path, monkeypatch):
    git.init()
    await world.begin()
    made = [git.commit("one")]
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexec sleep 60\n")
    (programs / "git").chmod(0o755)
    ordinary = os.environ["PATH"]
    monkeypatch.setattr(git_details, "SECONDS", 0.3)
    watch = watch_of(world)
    for subject in ("two", "three"):
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        await watch.look()
        monkeypatch.setenv("PATH", ordinary)
        made.append(git.commit(subject))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    await watch.look()
    assert await hashes(world) == made
    assert (tmp_path / "asked").read_text().count("asked") == 1
