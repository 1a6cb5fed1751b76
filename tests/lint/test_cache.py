"""What was read is kept between runs, and stays bounded."""

import os
import time

from aftercommit.lint import cache, cli, reading
from aftercommit.lint.cache import DAY, STAMP, UNUSED, Cache, default_cache, key_of
from aftercommit.lint.reading import read
from aftercommit.lint.source import parse


def test_a_file_is_parsed_once_until_its_content_changes(tmp_path, monkeypatch):
    file, parsed = tmp_path / "a.py", []
    monkeypatch.setattr(reading, "parse", lambda text: parsed.append(text) or parse(text))
    file.write_text("x = 1\n")

    first = read([file], cache=Cache(tmp_path / "cache"))
    assert read([file], cache=Cache(tmp_path / "cache")) == first
    file.write_text("x = 2\n")
    read([file], cache=Cache(tmp_path / "cache"))

    assert parsed == ["x = 1\n", "x = 2\n"]


def test_a_damaged_cache_is_read_again(tmp_path):
    (tmp_path / "a.py").write_text("def f(): ...\n")
    first = read([tmp_path / "a.py"], cache=Cache(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache").glob("??/*")

    kept.write_bytes(kept.read_bytes()[:-5])

    assert read([tmp_path / "a.py"], cache=Cache(tmp_path / "cache")) == first


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "cache").write_text("a file, no folder")

    assert len(read([tmp_path / "a.py"], cache=Cache(tmp_path / "cache"))) == 1


def test_another_version_of_the_linter_reads_again(monkeypatch):
    before = key_of(b"x = 1")

    monkeypatch.setattr(cache, "FACTS", "another")

    assert key_of(b"x = 1") != before


def test_what_was_not_used_for_long_is_deleted_once_a_day(tmp_path):
    kept = Cache(tmp_path)
    for key in ("aa1", "bb2", "cc3"):
        kept.put(key, key.encode())
    long_ago = time.time() - UNUSED - DAY
    for key in ("aa1", "bb2"):
        os.utime(tmp_path / key[:2] / key, (long_ago, long_ago))
    assert kept.get("aa1") == b"aa1"  # used again

    kept.prune()

    assert [kept.get(key) for key in ("aa1", "bb2", "cc3")] == [b"aa1", None, b"cc3"]
    os.utime(tmp_path / "cc" / "cc3", (long_ago, long_ago))
    kept.prune()  # a second time on the same day
    assert kept.get("cc3") == b"cc3"


def test_the_oldest_goes_where_there_is_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 100)
    kept = Cache(tmp_path)
    for age, key in enumerate(("aa1", "bb2", "cc3")):
        kept.put(key, b"x" * 18)  # 50 bytes with its digest
        used = time.time() - 60 * age
        os.utime(tmp_path / key[:2] / key, (used, used))

    kept.prune()

    assert [kept.get(key) is None for key in ("aa1", "bb2", "cc3")] == [False, False, True]


def test_a_cache_that_nobody_made_is_pruned_without_a_word(tmp_path):
    Cache(tmp_path / "none").prune()

    assert not (tmp_path / "none").exists()


def test_the_command_keeps_nothing_if_asked_to(tmp_path, monkeypatch):
    monkeypatch.setenv("AFTERCOMMIT_LINT_CACHE", str(tmp_path / "kept"))
    (tmp_path / "a.py").write_text("x = 1\n")

    assert cli.main([str(tmp_path / "a.py"), "--no-cache"]) == cli.CLEAN
    assert not (tmp_path / "kept").exists()

    assert cli.main([str(tmp_path / "a.py")]) == cli.CLEAN
    assert (tmp_path / "kept" / "aftercommit-lint" / STAMP).exists()


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    for name in ("AFTERCOMMIT_LINT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError

    monkeypatch.setattr(cache.Path, "home", homeless)

    assert default_cache() is None
