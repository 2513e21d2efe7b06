import json
import time
from pathlib import Path

from coved.runtime.logfile import LogFile
from coved.runtime.logformats import escape


def entries(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_lines_that_come_in_pieces_are_joined_per_stream(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    for stream, data in (("stdout", b"a"), ("stderr", b"x\ny"), ("stdout", b"b\nc\n\nd"), ("stderr", b"z\n")):
        log.feed(stream, data)
    log.close()
    assert [(one["stream"], one["log"]) for one in entries(tmp_path / "log")] == [
        *(("stderr", "x\n"), ("stdout", "ab\n"), ("stdout", "c\n"), ("stdout", "\n"), ("stderr", "yz\n")),
        ("stdout", "d"),
    ]


def test_bytes_are_written_as_gos_encoder_writes_them() -> None:
    assert escape(b'a"b\\c\t\r<&>\x7f\x00') == b'a\\"b\\\\c\\u0009\\r\\u003c\\u0026\\u003e\x7f\\u0000'
    assert escape(b"\xff\xfe\xe2\x82") == b"\\ufffd" * 4
    assert escape("€\u2028\ufffd".encode()) == "€".encode() + b"\\u2028" + "\ufffd".encode()


def test_long_lines_are_split_at_16_kib_but_not_inside_a_character(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    text = "short\n" + "x" * 16383 + "€" + "y" * 20000 + "\nend\n"
    data = text.encode()
    for start in range(0, len(data), 5000):
        log.feed("stdout", data[start : start + 5000])
    log.close()
    lines = [one["log"] for one in entries(tmp_path / "log")]
    assert "".join(lines) == text
    assert [len(line) for line in lines] == [6, 16383, 16382, 3620, 4]


def test_any_cut_of_the_stream_gives_the_same_log(tmp_path: Path) -> None:
    data = b"one\n" + b"z" * 40000 + b"\ntwo\n\n" + b"q" * 16384 + b"\nlast"
    results = []
    for size in (1, 7, 4096, 16384, 65536, len(data)):
        path = tmp_path / str(size)
        log = LogFile(str(path))
        for start in range(0, len(data), size):
            log.feed("stdout", data[start : start + size])
        log.close()
        results.append([one["log"] for one in entries(path)])
    assert all(result == results[0] for result in results)


def test_times_are_rfc_3339_in_utc(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    before = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
    log.feed("stdout", b"x\n")
    log.close()
    (entry,) = entries(tmp_path / "log")
    assert entry["time"][:16] >= before and entry["time"].endswith("Z")


def test_rotation_keeps_the_newest_and_loses_no_line_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), max_size=2000, max_files=3)
    log.feed("stdout", b"".join(b"line %04d\n" % number for number in range(200)))
    log.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    kept = [one["log"] for name in ("log.2", "log.1", "log") for one in entries(tmp_path / name)]
    assert kept == [f"line {number:04d}\n" for number in range(200 - len(kept), 200)]
    assert all(one.stat().st_size < 2100 for one in tmp_path.iterdir())


def test_rotation_with_one_file_starts_again(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), max_size=500, max_files=1)
    log.feed("stdout", b"x\n" * 100)
    log.close()
    assert [one.name for one in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").stat().st_size < 600


def test_lines_that_cannot_be_written_are_counted_and_noted_once() -> None:
    log = LogFile("/dev/full")
    log.feed("stdout", b"a\nb\n")
    assert (log.dropped, log.last_error) == (2, "No space left on device")


def test_200_000_short_lines_cost_well_under_half_a_second(tmp_path: Path) -> None:
    data = b"".join(b"line number %d\n" % number for number in range(200_000))
    log = LogFile(str(tmp_path / "log"))
    started = time.process_time()
    for start in range(0, len(data), 65536):
        log.feed("stdout", data[start : start + 65536])
    log.close()
    assert time.process_time() - started < 0.5
    assert (tmp_path / "log").read_bytes().count(b"\n") == 200_000
