import io

import pytest

from robustvision.core.runtime import progress
from robustvision.core.runtime.progress import track


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when a test says so."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_items_pass_unchanged_one_at_a_time():
    drawn = []

    def source():
        for item in range(5):
            drawn.append(item)
            yield item

    for item in track(source(), "x", quiet=True):
        assert drawn[-1] == item
        if item == 2:
            break
    assert drawn == [0, 1, 2]
    assert list(track([3, 1, 2], "x", quiet=True)) == [3, 1, 2]


def test_quiet_shows_nothing(capsys):
    list(track(range(3), "reading", quiet=True))
    assert capsys.readouterr() == ("", "")


def test_a_log_gets_a_line_now_and_then(capsys, clock):
    for _ in track(range(10), "reading photos"):
        clock(4.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading photos: 3 of 10, 12 s, about 28 s to go",
        "reading photos: 6 of 10, 24 s, about 16 s to go",
        "reading photos: 9 of 10, 36 s, about 4 s to go",
        "reading photos: 10 of 10, 40 s",
    ]


def test_an_unknown_total_is_left_out(capsys, clock):
    list(track(iter("abc"), "reading"))
    list(track(iter("abc"), "reading", total=3))
    assert capsys.readouterr().err.splitlines() == ["reading: 3, 0 s", "reading: 3 of 3, 0 s"]


def test_a_failure_is_not_reported_as_done(capsys, clock):
    with pytest.raises(ZeroDivisionError):
        sum(1 / item for item in track(range(3), "reading"))
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_on_stderr(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    list(track(range(7), "reading photos"))
    assert "reading photos" in terminal.getvalue()
    assert "7/7" in terminal.getvalue()
    assert capsys.readouterr().out == ""
