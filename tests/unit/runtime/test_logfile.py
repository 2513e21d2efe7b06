import gzip
import json
import os
import time
from pathlib import Path

import pytest
from coved.runtime.logcompress import Compressor
from coved.runtime.logfile import LogFile
from coved.runtime.logformats import JsonLines, Records, escape, read_compressed_head
from coved.runtime.loop import Loop


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


def test_pieces_of_a_line_have_the_time_of_its_first(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"))
    log.feed("stdout", b"x" * 20000)
    log.feed("stderr", b"other\n")
    log.feed("stdout", b"x" * 20000 + b"\nnext\n")
    log.close()
    times = [one["time"] for one in entries(tmp_path / "log") if one["log"][0] == "x"]
    assert len(times) == 3
    assert len(set(times)) == 1
    assert entries(tmp_path / "log")[-1]["time"] > times[0]


def test_attributes_stand_before_the_time(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), form=JsonLines(b'{"a":"b"}'))
    log.feed("stdout", b"one\ntwo\nrest")
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split('"time"')[0] for line in lines] == [
        f'{{"log":"{text}","stream":"stdout","attrs":{{"a":"b"}},' for text in ("one\\n", "two\\n", "rest")
    ]


def test_records_hold_bytes_as_they_came(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), form=Records())
    log.feed("stdout", b"\x00\xff\r\n\n")
    log.feed("stderr", b"e")
    log.close()
    data = (tmp_path / "log").read_bytes()
    assert data[:5] == b"\x00\x00\x00\x0e\x01"
    assert data[13:22] == b"\x00\xff\r\n\n\x00\x00\x00\x0e"
    assert data[22:27] == b"\x00\x00\x00\x0a\x06"
    assert data[35:] == b"e\x00\x00\x00\x0a"
    assert abs(int.from_bytes(data[5:13], "big") - time.time_ns()) < 10**10


@pytest.mark.parametrize("form", [JsonLines, Records])
def test_what_a_crash_cut_short_is_taken_off_before_more_is_written(
    tmp_path: Path, form: type[JsonLines] | type[Records]
) -> None:
    path = tmp_path / "log"
    log = LogFile(str(path), form=form())
    log.feed("stdout", b"one\n")
    log.feed("stdout", b"two\n")
    log.close()
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[:-7], whole + bytes(4096), whole + b"\xff" * 9, whole[:5], b""):
        path.write_bytes(torn)
        log = LogFile(str(path), form=form())
        kept = path.read_bytes()
        assert whole.startswith(kept)
        assert len(kept) == len(whole) or torn[len(kept) :] != b"" or torn == b""
        log.feed("stdout", b"three\n")
        log.close()
        after = path.read_bytes()
        assert after.startswith(kept)
        assert b"three" in after[len(kept) :]


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


@pytest.mark.parametrize("form", [JsonLines, Records])
def test_files_are_as_large_as_was_asked_and_a_line_more(tmp_path: Path, form: type[JsonLines] | type[Records]) -> None:
    log = LogFile(str(tmp_path / "log"), max_size=1000, max_files=1000, form=form())
    log.feed("stdout", b"".join(b"a line of some length %04d\n" % number for number in range(2000)))
    log.close()
    files = sorted(tmp_path.iterdir(), key=lambda one: int(one.suffix[1:] or 0))
    assert len(files) > 40
    assert all(1000 <= one.stat().st_size < 1120 for one in files[1:])


def test_a_number_of_files_beyond_reason_costs_nothing(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "log"), max_size=100, max_files=10**12)
    started = time.process_time()
    log.feed("stdout", b"some line\n" * 50)
    log.close()
    assert time.process_time() - started < 1
    assert len(list(tmp_path.iterdir())) > 20


def run_until_idle(loop: Loop, log: LogFile) -> None:
    if log.settle(loop.stop):
        loop.run()
        loop._running = True


@pytest.mark.root
@pytest.mark.parametrize("form", [JsonLines, Records])
def test_rotated_files_are_compressed_and_the_shim_only_renames(
    tmp_path: Path, form: type[JsonLines] | type[Records]
) -> None:
    loop = Loop()
    log = LogFile(str(tmp_path / "log"), max_size=2000, max_files=3, form=form(), compressor=Compressor(loop))
    plain: list[bytes] = []
    for number in range(6):
        while (tmp_path / "log").stat().st_size < 2000:
            log.feed("stdout", b"line of file %d\n" % number)
        plain.append((tmp_path / "log").read_bytes())
        log.feed("stdout", b"the next\n")  # rotates
        run_until_idle(loop, log)
    log.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz"]
    for name, expected in (("log.1.gz", plain[5]), ("log.2.gz", plain[4])):
        data = (tmp_path / name).read_bytes()
        assert gzip.decompress(data) == expected
        inode, last_ns = read_compressed_head(data[:64])
        assert inode > 0
        assert abs(last_ns - time.time_ns()) < 10**11


@pytest.mark.root
def test_output_never_waits_for_the_compressor(tmp_path: Path) -> None:
    """Without its end being noticed, as in a long chunk of output, rotation goes on and the limits hold."""
    loop = Loop()
    log = LogFile(str(tmp_path / "log"), max_size=50_000, max_files=4, compressor=Compressor(loop))
    log.feed("stdout", b"".join(b"%d\n" % number for number in range(20000)))
    names = sorted(one.name for one in tmp_path.iterdir() if not one.name.endswith(".new"))
    assert names == ["log", "log.1", "log.2", "log.3"]
    run_until_idle(loop, log)
    log.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz", "log.3.gz"]
    data = [gzip.decompress((tmp_path / f"log.{number}.gz").read_bytes()) for number in (3, 2, 1)]
    numbers = [int(json.loads(line)["log"]) for line in b"".join(data).splitlines()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.root
def test_a_compressor_that_is_given_up_leaves_the_original(tmp_path: Path) -> None:
    loop = Loop()
    log = LogFile(str(tmp_path / "log"), max_size=3_000_000, max_files=3, compressor=Compressor(loop))
    log.feed("stdout", os.urandom(1_000_000).hex().encode().replace(b"0", b"\n"))
    log.feed("stdout", os.urandom(1_000_000).hex().encode().replace(b"0", b"\n"))
    done: list[bool] = []
    assert log.settle(lambda: done.append(True))
    log.give_up()
    log.close()
    assert done == [True]
    assert "log.1" in {one.name for one in tmp_path.iterdir()}
    assert not any(one.suffix in (".gz", ".new") for one in tmp_path.iterdir())
    # The next one finds it, and compresses it when it rotates.
    log = LogFile(str(tmp_path / "log"), max_size=100, max_files=3, compressor=Compressor(loop))
    log.feed("stdout", b"one\ntwo\n")
    run_until_idle(loop, log)
    log.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz"]


def test_what_a_crash_left_of_a_compression_is_cleared_away(tmp_path: Path) -> None:
    for name in ("log", "log.1", "log.1.gz", "log.2.gz", "log.gz.new"):
        (tmp_path / name).write_bytes(b"")
    LogFile(str(tmp_path / "log"), max_size=100, max_files=5).close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1", "log.2.gz"]


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
