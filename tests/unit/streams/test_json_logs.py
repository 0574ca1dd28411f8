"""Log files of the engine: tails, times, parts of lines, and rotation under the reader's feet."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.runtime.json_logs import JsonLogReader


def entry(text: str, *, stream: str = "stdout", time: str = "2026-01-02T03:04:05Z") -> str:
    return json.dumps({"log": text, "stream": stream, "time": time}) + "\n"


class Log:
    """A log as the engine writes and rotates it, keeping three files."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "c-json.log"
        self.path.touch()

    def write(self, *numbers: int) -> None:
        with self.path.open("a") as file:
            file.writelines(entry(f"{number}\n") for number in numbers)

    def rotate(self) -> None:
        for older, newer in ((".2", ".1"), (".1", "")):
            source = self.path.with_name(self.path.name + newer)
            if source.exists():
                source.rename(self.path.with_name(self.path.name + older))
        self.path.touch()


def read_all(reader: JsonLogReader) -> list[int]:
    text = b""
    while chunk := reader.read():
        text += chunk
    return [int(line) for line in text.split()]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_files_are_read_oldest_first(log: Log) -> None:
    for numbers in ((1, 2), (3,), (4, 5)):
        log.write(*numbers)
        log.rotate()
    log.write(6)
    # Three files are kept: the oldest is gone.
    assert read_all(JsonLogReader(log.path)) == [3, 4, 5, 6]


@pytest.mark.parametrize("tail", range(9))
def test_a_tail_reaches_back_into_rotated_files(log: Log, tail: int) -> None:
    log.write(1, 2, 3)
    log.rotate()
    log.write(4)
    log.rotate()
    log.write(5, 6)
    assert read_all(JsonLogReader(log.path, tail=tail)) == [1, 2, 3, 4, 5, 6][max(6 - tail, 0) :]


def test_a_long_tail_crosses_blocks(log: Log) -> None:
    log.write(*range(10_000))
    assert read_all(JsonLogReader(log.path, tail=5_000)) == list(range(5_000, 10_000))


def test_following_loses_and_repeats_nothing_when_files_move(log: Log) -> None:
    reader = JsonLogReader(log.path)
    seen: list[int] = []
    log.write(1)
    seen += read_all(reader)
    log.write(2)
    log.rotate()
    log.write(3)
    seen += read_all(reader)
    log.rotate()
    log.write(4)
    log.rotate()
    log.write(5)
    seen += read_all(reader)
    seen += read_all(reader)
    assert seen == [1, 2, 3, 4, 5]


def test_a_reader_that_was_overtaken_goes_on_with_the_oldest_file(log: Log) -> None:
    reader = JsonLogReader(log.path)
    log.write(1)
    assert read_all(reader) == [1]
    for number in range(2, 7):
        log.rotate()
        log.write(number)
    assert read_all(reader) == [4, 5, 6]


def test_a_log_that_is_cut_starts_again(log: Log) -> None:
    reader = JsonLogReader(log.path)
    log.write(1, 2, 3)
    assert read_all(reader) == [1, 2, 3]
    log.path.write_text(entry("4\n"))
    assert read_all(reader) == [4]


def test_a_line_being_written_waits_for_its_end(log: Log) -> None:
    reader = JsonLogReader(log.path)
    line = entry("whole\n")
    with log.path.open("a") as file:
        file.write(line[:10])
        file.flush()
        assert reader.read() == b""
        file.write(line[10:])
    assert reader.read() == b"whole\n"


def test_half_a_line_of_a_killed_engine_is_passed_over(log: Log) -> None:
    log.path.write_text('{"log":"half\n' + entry("next\n"))
    assert JsonLogReader(log.path).read() == b"next\n"


def test_times_select_and_are_printed_with_nine_digits(log: Log) -> None:
    with log.path.open("a") as file:
        file.write(entry("old\n", time="2026-01-02T03:04:05Z"))
        file.write(entry("part ", time="2026-01-02T03:04:05.25Z"))
        file.write(entry("of a line\n", time="2026-01-02T03:04:06Z"))
        file.write(entry("é\n", time="2026-01-02T03:04:06.123456789Z"))
    since = datetime(2026, 1, 2, 3, 4, 5, 200_000, tzinfo=UTC)
    assert JsonLogReader(log.path, since=since, timestamps=True).read().decode() == (
        "2026-01-02T03:04:05.250000000Z part of a line\n2026-01-02T03:04:06.123456789Z é\n"
    )


def test_one_stream_can_be_chosen(log: Log) -> None:
    with log.path.open("a") as file:
        file.write(entry("out\n") + entry("err\n", stream="stderr"))
    assert JsonLogReader(log.path, streams=frozenset({"stderr"})).read() == b"err\n"


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JsonLogReader(tmp_path / "none")
