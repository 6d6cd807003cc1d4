"""The events of the monitor in a real browser: a real daemon, fed by the bash emitter."""

from __future__ import annotations

import csv
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from claude_loop.client import DaemonClient
from tests.e2e.daemon import Daemon
from tests.requirements import find_chromium
from tests.support import BIN, until

pytestmark = pytest.mark.requires("chromium")
EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
# Reverses what follows; a terminal's colour; a word without end.
ODD = "safe \u202egnp.exe \x1b[31mred " + "Donaudampfschiff" * 900
COUNT = "[data-count]"
ROWS = "ol[role=list] > li"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=str(find_chromium()), args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose errors fail the test; those of a connection that is gone are the browser's own."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
    yield opened
    context.close()
    assert complaints == []


@pytest.fixture
def daemon(home: Path) -> Iterator[Daemon]:
    with Daemon(home) as served:
        yield served


def emit(daemon: Daemon, script: str, *words: str) -> None:
    """Run lines of bash with the emitter; returns once the daemon has committed what they emitted, if it is up."""
    subprocess.run(
        ["bash", "-c", f'source "$1"; shift\n{script}', "loop", str(BIN / "emit_progress.sh"), *words],
        env=daemon.environ,
        check=True,
        timeout=30,
    )


def ticks(daemon: Daemon, first: int, last: int, type_: str = "tick") -> None:
    emit(daemon, f"for ((i = {first}; i <= {last}; i++)); do emit_event {type_} prd=P-1 n:=$i; done; emit_flush 20")


def visit(page: Page, daemon: Daemon, query: str = "") -> None:
    page.goto(f"{daemon.url}/events{query}")
    expect(page.locator("header [role=status]")).to_contain_text("Live")


def row(page: Page, text: str) -> Any:
    return page.locator(ROWS).filter(has_text=text)


def downloaded(page: Page, name: str, scope: str = "shown here") -> str:
    page.locator("summary", has_text="Download").click()
    page.get_by_label(scope).check()
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    return Path(waiting.value.path()).read_bytes().decode()


def numbers(page: Page, type_: str = "tick") -> list[int]:
    """Of the events that the page holds, in the order in which it shows them."""
    held = [json.loads(line) for line in downloaded(page, "JSONL").splitlines()]
    return [event["data"]["n"] for event in held if event["type"] == type_]


WITHIN_THE_WIDTH = "[...document.querySelectorAll('.scroller, .scroller *')].every((e) => e.getBoundingClientRect().right <= innerWidth)"


def test_events_appear_live_in_words_and_hostile_text_is_text(daemon: Daemon, page: Page) -> None:
    visit(page, daemon)
    expect(page.get_by_text("No events yet.")).to_be_visible()
    script = 'emit_story_started P-1 US-1; emit_test_run P-1 US-1 10 2 test_total; emit_error P-1 "" "$1"; emit_error P-1 US-2 "$2"'
    emit(daemon, script, EVIL, ODD)
    expect(row(page, "tests 10 passed 2 failed: test_total")).to_be_visible()
    expect(row(page, EVIL)).to_be_visible()
    expect(row(page, "safe ‹U+202E›gnp.exe red Donau")).to_be_visible()
    row(page, "safe ").locator("button.what").click()
    expect(page.locator("pre")).to_contain_text('"story_id": "US-2"')
    expect(page.locator("pre")).to_contain_text("\\u202e")
    page.get_by_role("button", name="Show all").click()
    until(lambda: page.evaluate("document.querySelector('pre').textContent.length > 10000"))
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 844})
        until(lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
        until(lambda: page.evaluate(WITHIN_THE_WIDTH))  # the rows follow it in a frame of their own
    assert "owned" not in page.title()
    emit(daemon, "emit_test_run P-1 US-1 12 0; emit_story_completed P-1 US-1")
    expect(row(page, "done, claimed: no commit")).to_be_visible()
    emit(daemon, "emit_commit_created P-1 US-1 abc1234 'Cart totals'")
    expect(row(page, "done, verified")).to_be_visible()
    emit(daemon, "emit_prd_completed P-1; emit_prd_started P-1; emit_flush 10")
    page.reload()  # what an earlier run has proved stays proved
    expect(row(page, "done, verified")).to_be_visible()
    expect(row(page, "done, claimed: 1 story not started")).to_be_visible()
    page.keyboard.press("G")
    page.keyboard.press("k")
    expect(page.locator("li.selected")).to_have_count(1)


def test_a_filter_is_in_the_address_and_what_it_shows_can_be_downloaded(daemon: Daemon, page: Page) -> None:
    ticks(daemon, 1, 700)
    emit(daemon, "for s in 1 2 3; do emit_log_message P-2 US-$s info '=needle, in a stack'; done; emit_flush 10")
    visit(page, daemon, "?q=needle")
    expect(page.locator(COUNT)).to_have_text("3 of 500 loaded")
    row(page, "US-2").locator("button.story").click()
    expect(page.get_by_role("button", name="Remove the filter story US-2")).to_be_visible()
    expect(page.locator(COUNT)).to_have_text("1 of 1 loaded")
    page.reload()
    expect(page.locator(COUNT)).to_have_text("1 of 1 loaded")
    assert page.input_value("[data-search]") == "needle"
    (table,) = csv.DictReader(downloaded(page, "CSV").splitlines())
    assert (table["story_id"], json.loads(table["data"])["message"]) == ("US-2", "=needle, in a stack")
    page.get_by_role("button", name="Remove the filter story US-2").click()
    expect(page.locator(COUNT)).to_have_text("3 of 500 loaded")
    page.fill("[data-search]", "")
    expect(page.locator(COUNT)).to_have_text("500 loaded")
    page.fill("[data-search]", "NEEDLE us-3")
    expect(page.locator(COUNT)).to_have_text("1 of 500 loaded")
    page.fill("[data-search]", "")
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_label("PRD", exact=True).fill("proof/P-2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove the filter PRD P-2")).to_be_visible()
    expect(page.locator(COUNT)).to_have_text("3 loaded")
    page.get_by_label("type", exact=True).fill("log")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Remove the filter type log.*")).to_be_visible()
    expect(page.locator(COUNT)).to_have_text("3 loaded")
    page.goto(f"{daemon.url}/events")
    page.locator(".scroller").hover()
    page.mouse.wheel(0, -100_000)
    expect(page.get_by_text("Nothing older is in the log.")).to_be_attached()
    assert numbers(page) == list(range(1, 701))
    page.goto(f"{daemon.url}/events?type=ti?k")
    expect(page.locator(COUNT)).to_have_text("500 loaded")
    everything = downloaded(page, "JSONL", "All that match in the log").splitlines()
    assert [json.loads(line)["data"]["n"] for line in everything] == list(range(1, 701))


def indexed(daemon: Daemon) -> bool:
    answer = DaemonClient(daemon.home).get("/api/search", {"q": "tick", "limit": 1})
    return answer["indexed_upto"] == answer["head"]


@contextmanager
def nobody_else_writes(database: Path) -> Iterator[None]:
    """For less time than SQLite waits for a lock."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_enter_searches_the_whole_log_and_what_the_index_has_not_reached_is_said(daemon: Daemon, page: Page) -> None:
    emit(daemon, "emit_log_message P-1 US-1 info 'a needle, long ago'")
    ticks(daemon, 1, 600)
    visit(page, daemon)
    expect(page.locator(COUNT)).to_have_text("500 loaded")
    until(lambda: indexed(daemon))
    page.keyboard.press("/")
    page.keyboard.type("needle")
    expect(page.locator(COUNT)).to_have_text("0 of 500 loaded")
    expect(page.locator(".empty")).to_have_text(
        "None of the 500 loaded events has these words. Enter searches the whole log."
    )
    page.keyboard.press("Enter")
    expect(page.locator(COUNT)).to_have_text("1 found in the whole log")
    expect(row(page, "a needle, long ago")).to_be_visible()
    page.reload()  # it is in the address, to be sent to somebody
    expect(row(page, "a needle, long ago")).to_be_visible()
    with nobody_else_writes(daemon.home.root / "search.db"):
        ticks(daemon, 601, 603)
        page.get_by_role("button", name="Back to live").click()
        expect(page.locator(COUNT)).to_contain_text("loaded")
        page.get_by_role("button", name="Search the whole log").click()
        behind = "1 found in the whole log, but for the last 3 events, which the index has not reached"
        expect(page.locator(COUNT)).to_have_text(behind)
    page.fill("[data-search]", "tick")
    page.keyboard.press("Enter")
    expect(page.locator(COUNT)).to_contain_text("200 found so far in the whole log")
    page.fill("[data-search]", "haystack")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing in the log has these words.")).to_be_visible()
    expect(page.locator(COUNT)).to_contain_text("0 found in the whole log")


def test_it_pauses_when_one_reads_and_goes_on_after_the_daemon_was_killed(daemon: Daemon, page: Page) -> None:
    ticks(daemon, 1, 100)
    visit(page, daemon)
    expect(row(page, "tick n=100")).to_be_visible()
    page.locator(".scroller").hover()
    page.mouse.wheel(0, -600)
    expect(page.locator(COUNT)).to_contain_text("paused")
    ticks(daemon, 101, 112)
    expect(page.get_by_role("button", name="12 new")).to_be_visible()
    expect(row(page, "tick n=112")).to_have_count(0)
    page.get_by_role("button", name="12 new").click()
    expect(row(page, "tick n=112")).to_be_visible()

    daemon.kill()
    expect(page.get_by_text("Not connected.")).to_be_visible()
    emit(daemon, "for i in 113 114 115; do emit_event tick prd=P-1 n:=$i; done")
    daemon.start()
    expect(row(page, "tick n=115")).to_be_visible()
    assert numbers(page) == list(range(1, 116))
    expect(page.get_by_text("Events were missed here")).to_have_count(0)

    daemon.kill()
    for part in daemon.home.root.glob("events.db*"):
        part.unlink()
    daemon.start()
    expect(page.get_by_text("Events were missed here: the daemon's log is another one now")).to_be_visible()
    ticks(daemon, 116, 117)
    expect(row(page, "tick n=117")).to_be_visible()
    assert numbers(page)[-3:] == [115, 116, 117]


def test_who_may_not_read_is_told_what_to_do(home: Path, page: Page) -> None:
    daemon = Daemon(home, CLAUDE_LOOP_AUTH__LOOPBACK="token")
    daemon.start()
    try:
        page.goto(f"{daemon.url}/events")
        expect(page.locator(".empty")).to_contain_text("claude-loop open")
        code = daemon.run("open", "--print-url").stdout.strip().rpartition("#")[2]
        page.goto("about:blank")
        page.goto(f"{daemon.url}/events#{code}")
        expect(page.get_by_text("No events yet.")).to_be_visible()
        until(lambda: "#" not in page.url)
        expect(page.locator("header [role=status]")).to_contain_text("Live")

        # A session ends with its daemon: the page that lies open says so, and what to do.
        daemon.kill()
        daemon.start()
        expect(page.get_by_role("alert")).to_have_text("This page needs a session: run claude-loop open.")
        expect(page.locator("header [role=status]")).to_contain_text("No session")
        page.goto("about:blank")
        page.goto(daemon.run("open", "--print-url").stdout.strip().replace("/#", "/events#"))
        expect(page.locator("header [role=status]")).to_contain_text("Live")
        expect(page.get_by_role("alert")).to_have_count(0)
    finally:
        daemon.stop()


def test_tool_calls_and_output_are_left_out_until_they_are_wanted(page: Page, daemon: Daemon) -> None:
    emit(
        daemon,
        "for i in 1 2 3; do emit_event tool.started prd=P-1 session=S tool=Read call_id=c$i; "
        "emit_event tool.completed prd=P-1 session=S tool=Read call_id=c$i; done; "
        "emit_event tool.failed prd=P-1 session=S tool=Bash call_id=c4 error='Exit code 1'; emit_flush 10",
    )
    ticks(daemon, 1, 2)
    visit(page, daemon)
    switch = page.get_by_role("checkbox", name="Tool calls and output")
    expect(page.locator(ROWS)).to_have_count(3)
    expect(page.get_by_text("6 left out")).to_be_visible()
    emit(daemon, "emit_event tool.started prd=P-1 session=S tool=Edit call_id=c5; emit_flush 10")
    expect(page.get_by_text("7 left out")).to_be_visible()
    switch.check()
    expect(page.locator(ROWS)).to_have_count(10)
    assert "all=1" in page.url
    page.reload()
    expect(switch).to_be_checked()
    expect(page.locator(ROWS)).to_have_count(10)
    switch.uncheck()
    expect(page.locator(ROWS)).to_have_count(3)
    assert "all=" not in page.url
    page.goto(f"{daemon.url}/events?type=tool.*")
    expect(page.locator(ROWS)).to_have_count(8)
    expect(switch).to_have_count(0)
