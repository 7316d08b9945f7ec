"""Benchmark files are read entry by entry, and what is wrong with one is said with its place."""

from __future__ import annotations

import json
import math
import sqlite3
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquasurf_ray.store import BenchmarkFileError, TaskMetric, read_benchmark
from aquasurf_ray.store.benchmark_files.json_members import read_members

WORDS = st.text(max_size=4)
NUMBERS = st.floats() | st.integers()
VALUES = st.recursive(NUMBERS | WORDS | st.none() | st.booleans(), lambda inner: st.lists(inner, max_size=3))
OBJECTS = st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=3), max_size=3)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "bench.json"


def refusal(path):
    with pytest.raises(BenchmarkFileError) as caught:
        list(read_benchmark(path))
    return str(caught.value)


class TestJsonMembers:
    @settings(max_examples=40, deadline=None)
    @given(
        document=OBJECTS,
        chunk=st.sampled_from([1, 7, 1 << 20]),
        ascii_only=st.booleans(),
        indent=st.sampled_from([None, 1]),
    )
    def test_they_are_those_that_pythons_own_decoder_finds(self, path, document, chunk, ascii_only, indent):
        text = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
        path.write_bytes(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aquasurf_ray.store.benchmark_files.json_members._CHUNK", chunk)
            found = list(read_members(path))
        assert repr({member.key: member.value for member in found}) == repr(json.loads(text))
        for member in found:
            assert (
                json.loads(text[member.offset :].decode()[: len(json.dumps(member.key, ensure_ascii=ascii_only))])
                == member.key
            )

    @settings(max_examples=40, deadline=None)
    @given(document=OBJECTS, part=st.floats(0, 1, exclude_max=True), chunk=st.sampled_from([1, 1 << 20]))
    def test_no_beginning_of_a_file_passes_for_the_whole(self, path, document, part, chunk):
        text = json.dumps(document).encode()
        path.write_bytes(text[: int(len(text) * part)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("aquasurf_ray.store.benchmark_files.json_members._CHUNK", chunk)
            with pytest.raises(BenchmarkFileError, match=r"cut short|empty"):
                list(read_members(path))

    @pytest.mark.parametrize("chunk", [1, 1 << 20])
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[]", "byte 0: expected a JSON object, got '['"),
            ("nonsense", "byte 0: expected a JSON object, got 'n'"),
            ("{} {}", "byte 3: expected the end of the file after the JSON object, got '{'"),
            ('{"relu(x)": {},}', "byte 15: expected a name in double quotes, got '}'"),
            ('{"relu(x)": 1}', r"byte 12: in entry 'relu(x)': expected an object, got '1'"),
            ('{"relu(x)" {}}', r"byte 11: in entry 'relu(x)': expected ':', got '{'"),
            ('{"é": {"a": nul}}', r"byte 13: in entry '\xe9': Expecting value"),
            ('{"a": {"b": 1 "c": 2}}', "byte 14: in entry 'a': Expecting ',' delimiter"),
            ('{"a": {}, "a": {}}', "byte 10: entry 'a' appears twice"),
            ('{"a": {"b": 1, "b": 1}}', "byte 6: in entry 'a': 'b' appears twice"),
            ('{"a": {"b": {"c": 1, "c": 1}}}', "byte 6: in entry 'a': 'c' appears twice"),
            ('{"a": {"b": ' + "[" * 200_000, "byte 6: in entry 'a': brackets are nested too deeply"),
            ('{"a": {"b": ' + "1" * 5_000 + "}}", "byte 6: in entry 'a': Exceeds the limit"),
        ],
    )
    def test_a_broken_file_is_reported_with_the_byte(self, path, monkeypatch, text, says, chunk):
        monkeypatch.setattr("aquasurf_ray.store.benchmark_files.json_members._CHUNK", max(chunk, len(text) // 50))
        path.write_text(text, encoding="utf-8")
        assert says in refusal(path)

    def test_bytes_that_are_no_text(self, path):
        path.write_bytes(b'{"a": {"b": "\xff"}}')
        assert "byte 13: the file is not text in UTF-8" in refusal(path)
        path.write_bytes(b"\xef\xbb\xbf{}")
        assert list(read_benchmark(path)) == []

    def test_a_value_without_end_is_given_up_before_it_fills_the_memory(self, path, monkeypatch):
        monkeypatch.setattr("aquasurf_ray.store.benchmark_files.json_members.LONGEST_MEMBER", 1000)
        monkeypatch.setattr("aquasurf_ray.store.benchmark_files.json_members._CHUNK", 100)
        path.write_text('{"a": {"b": "' + "x" * 100_000)
        read = []
        with pytest.raises(BenchmarkFileError, match="in entry 'a': more than 1000 characters are not an entry"):
            list(read_members(path, lambda done, total: read.append(done)))
        assert max(read) < 5_000

    def test_an_error_that_no_further_bytes_can_repair_is_reported_at_once(self, path, monkeypatch):
        monkeypatch.setattr("aquasurf_ray.store.benchmark_files.json_members._CHUNK", 100)
        path.write_text('{"a": {"b": [1, 2; 3' + ", 4" * 100_000 + "]}}")
        read = []
        with pytest.raises(BenchmarkFileError, match="byte 17: in entry 'a': Expecting ',' delimiter"):
            list(read_members(path, lambda done, total: read.append(done)))
        assert max(read) == 100


class TestEntries:
    def test_metrics_names_and_spectra_are_taken_as_they_are(self, path):
        metrics = {"Validation Accuracy": 1, "Test Loss": math.inf, "Train Loss": math.nan, "Runtime (s)": 3.5}
        entry = {
            **metrics,
            "Equivalent Activation Functions": ["b"],
            "Fisher log eigenvalue CDF": [0, -0.0, 1],
            "New": [1],
        }
        path.write_text(
            json.dumps({"a": entry, "c": {"Validation Accuracy": None}, "d": {"Validation Accuracy": math.nan}})
        )
        first, without, diverged = read_benchmark(path)
        result = first.result
        assert (result.status, result.score, result.test_loss, result.seconds) == ("done", 1.0, math.inf, 3.5)
        assert math.isnan(result.train_loss)
        assert (result.test_accuracy, first.aliases, first.other) == (None, ("b",), '{"New": [1]}')
        assert first.cdf_values().tobytes() == np.array([0.0, -0.0, 1.0]).tobytes()
        assert (without.result.status, without.cdf_length) == ("diverged", 0)
        assert diverged.result.score is None
        assert math.isnan(diverged.result.val_accuracy)

    @pytest.mark.parametrize(
        ("entry", "says"),
        [
            ({"Test Loss": "0.5"}, """byte 1, entry 'a': 'Test Loss' must be a number, got "0.5\""""),
            ({"Test Loss": True}, "'Test Loss' must be a number, got true"),
            ({"Runtime (s)": 10**400}, "'Runtime (s)' must fit a float64"),
            ({"Test Accuracy": 65.2}, "'Test Accuracy' must be between 0 and 1, got 65.2"),
            ({"Validation Accuracy": math.inf}, "'Validation Accuracy' must be between 0 and 1, got inf"),
            ({"Equivalent Activation Functions": "b"}, 'must be a list of names, got "b"'),
            ({"Equivalent Activation Functions": [1]}, "must be a list of names"),
            ({"Fisher log eigenvalue CDF": {}}, "must be a list of numbers, got dict"),
            ({"Fisher log eigenvalue CDF": [0.5, None]}, "must be a list of numbers, got null in it"),
            ({"Fisher log eigenvalue CDF": [[0.5]]}, "must be a list of numbers, got list in it"),
            ({"Fisher log eigenvalue CDF": [True]}, "must be a list of numbers, got true in it"),
            ({"Fisher log eigenvalue CDF": [10**400]}, "has a number that float64 cannot hold"),
        ],
    )
    def test_a_wrong_value_is_reported_with_its_place(self, path, entry, says):
        path.write_text(json.dumps({"a": entry}))
        assert says in refusal(path)

    def test_a_name_that_no_index_can_hold(self, path):
        path.write_text(json.dumps({"a" * 5000: {}}))
        assert "byte 1: a name must have 1 to 2000 characters, got 5000" in refusal(path)

    def test_scores_of_another_metric(self, path):
        path.write_text(
            json.dumps({"a": {"Validation Accuracy": math.nan, "Validation Score": -0.25, "Test Score": -0.5}})
        )
        (entry,) = read_benchmark(path, TaskMetric("rmse", higher_is_better=False))
        assert (entry.result.score, entry.result.test_score, entry.other) == (-0.25, -0.5, "{}")

    def test_one_entry_is_in_memory_at_a_time(self, path, monkeypatch):
        monkeypatch.setattr("aquasurf_ray.store.benchmark_files.json_members._CHUNK", 50_000)
        entry = {"Fisher log eigenvalue CDF": [i / 1000 for i in range(1000)]}
        path.write_text(json.dumps({f"f{i}": entry for i in range(300)}))
        tracemalloc.start()
        try:
            assert sum(entry.cdf_length for entry in read_benchmark(path)) == 300_000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        size = path.stat().st_size
        assert size > 2_000_000
        assert peak < size / 3

    def test_no_file_no_regular_file(self, tmp_path):
        assert "absent.json' cannot be read: No such file" in refusal(tmp_path / "absent.json")
        assert "is not a regular file" in refusal(tmp_path)

    def test_a_sqlite_database_is_named_as_one(self, path):
        connection = sqlite3.connect(path.with_name("results.db"))
        connection.execute("CREATE TABLE results (name, val_acc)")
        connection.close()
        says = refusal(path.with_name("results.db"))
        assert says.endswith(
            "is a SQLite database; import reads Act-Bench files (JSON) and Parquet files of this program"
        )
