"""Nothing that a database, a checkpoint or a file holds is ever run, whatever stands in it."""

from __future__ import annotations

import ast
import contextlib
import io
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from store_reading import attempts_of

from aquasurf_ray.store import (
    CostRecord,
    EmbeddingRecord,
    EpochRecord,
    EvaluationRequest,
    EvaluationResult,
    FunctionRow,
    LearnedValues,
    LiveRun,
    NewCandidate,
    NewRun,
    SpectrumRecord,
    Store,
    StoreError,
    this_process,
)
from aquasurf_ray.store.database.columns import CleanText, FaithfulFloat
from aquasurf_ray.store.database.schema import Base
from aquasurf_ray.surrogate.spectra import SpectrumFeature

ROOT = Path(__file__).parents[2]
ROOMS = ("aquasurf_ray", "workers", "surrogate", "store")


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with a row in every table but that of imports."""
    path = tmp_path_factory.mktemp("planted") / "whole.db"
    with Store.open(f"sqlite:///{path}") as opened:
        task = opened.add_task("digits", "1", "task-digest", {"objective": {"metric": "accuracy"}})
        functions = opened.add_functions([FunctionRow("f", "relu(x)", 1, ("max(x,zero(x))",))])
        run = opened.create_run(NewRun("one", "search", task, {}, "digest", 0, 1, "storage", "0.1.0"), functions)
        lease = opened.acquire_lease(run.id, this_process())
        opened.record_spectra(lease, [SpectrumRecord(functions[0], "sampled", 0, "done", b"12345678")])
        opened.record_costs(lease, [CostRecord("cpu", 1.0, 1.0, 5, 5, function_id=functions[0])])
        opened.save_embedding(lease, EmbeddingRecord("version", task, {}, np.array(functions), np.zeros((1, 2))))
        claim = opened.claim(lease, functions[0], 0, "suggestion")
        opened.start(lease, claim.evaluation_id, "worker")
        epochs = (EpochRecord(1, val_loss=0.5),)
        learned = (LearnedValues("act", "a", 1.0, None, 0.5, 0.0, (0.5,)),)
        result = EvaluationResult("done", score=0.5, epochs=epochs, learned=learned)
        opened.record_result(lease, claim.evaluation_id, result)
        opened.grow(lease, 1, [NewCandidate(FunctionRow("g", "g(x)", 1), "insert", (functions[0],))])
        opened.report(lease, LiveRun())
        opened.request_stop(run.id, this_process())
        opened.release_lease(lease, "finished")
        shared = opened.share_run(run.id, this_process(), code_version="0.1.0")
        request = EvaluationRequest(functions[0], 1, "suggestion")
        opened.ask(shared, request, this_process(), nonce="nonce", lease_seconds=30.0)
        opened.enter_study(run.id, this_process(), nonce="process", lease_seconds=30.0)
    return path


def plantable():
    """Every column that holds text, JSON, bytes or a float, which SQLite lets hold anything."""
    for table in Base.metadata.sorted_tables:
        if table.name == "imported_entries":
            continue
        for column in table.columns:
            if not column.foreign_keys and column.type.python_type.__name__ != "int":
                yield table.name, column.name


def read_everything(opened):
    """All that a search and the commands read of a store; what is broken may be refused, in a sentence."""
    reads = [opened.runs, lambda: opened.task(1), lambda: opened.find_function("relu(x)")]
    reads += [lambda: opened.embedding("version"), lambda: attempts_of(opened, 1), lambda: opened.curve(1)]
    reads += [lambda: opened.snapshot(1), lambda: opened.status(1), lambda: opened.events(1)]
    reads += [lambda: opened.leaderboard(run_id=1), lambda: opened.function_history("relu(x)")]
    reads += [lambda: opened.activity(1), lambda: opened.failure_causes(1)]
    reads += [
        lambda: opened.learned(1),
        lambda: opened.families(1),
        lambda: opened.families(2),
        lambda: spectra_of(opened),
        lambda: opened.costs(1, [1], device="cpu"),
    ]
    for read in reads:
        with contextlib.suppress(StoreError):
            read()


def spectra_of(opened):
    for record in opened.spectra(1, [1]).values():
        with contextlib.suppress(ValueError):
            SpectrumFeature.from_bytes(record.feature)


@pytest.mark.slow
def test_a_pickle_in_any_cell_is_never_run(whole, tmp_path):
    mark = tmp_path / "planted"
    payload = pickle.dumps(Bomb(mark), protocol=0)
    pickle.loads(payload).close()
    assert mark.exists(), "the bomb works"
    mark.unlink()
    path, cells = tmp_path / "copy.db", list(plantable())
    path.write_bytes(whole.read_bytes())
    assert len(cells) > 60
    with (
        Store.open(f"sqlite:///{path}") as opened,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA synchronous = OFF")
        for table, column in cells:
            ((before,),) = connection.execute(f'SELECT "{column}" FROM "{table}" LIMIT 1').fetchall()
            value = payload if column in ("feature", "function_ids", "coordinates") else payload.decode()
            connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = 1', [value])
            read_everything(opened)
            assert not mark.exists(), f"{table}.{column} was run"
            connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = 1', [before])
        read_everything(opened)


FORBIDDEN = {
    ("pickle", "loads"): {
        "workers/engine/ranks.py"
    },  # messages between the processes of one training, made by this program
    ("pickle", "load"): set(),
    ("cloudpickle", "loads"): set(),
    ("marshal", "loads"): set(),
    ("shelve", "open"): set(),
    ("joblib", "load"): set(),
    ("os", "system"): set(),
    ("yaml", "load"): {"aquasurf_ray/plain_yaml.py"},  # with a loader that reads less than the safe one
    ("yaml", "unsafe_load"): set(),
    ("yaml", "full_load"): set(),
    ("pandas", "read_pickle"): set(),
    ("", "eval"): set(),
    ("", "exec"): set(),
    ("", "__import__"): set(),
}


def calls(tree):
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            yield node.func.value.id, node.func.attr, node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id, node


def test_no_code_reads_what_can_run_code():
    """But for what stands in `FORBIDDEN`. Arrays and checkpoints are read as such alone, programs without a shell."""
    for file in (file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        name = str(file.relative_to(ROOT))
        for module, function, node in calls(ast.parse(file.read_text())):
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            place = f"{name}:{node.lineno}"
            assert name in FORBIDDEN.get((module, function), {name}), f"{place} calls {module}.{function}"
            if (module, function) == ("torch", "load"):
                assert given.get("weights_only") is True, place
            if (module, function) == ("np", "load"):
                assert given.get("allow_pickle") is False, place
            assert given.get("shell") is not True, place


def test_the_types_of_cells_know_no_pickle():
    """SQLAlchemy has a column type that pickles; no table here uses it."""
    kinds = {type(column.type).__name__ for table in Base.metadata.sorted_tables for column in table.columns}
    assert kinds <= {"Integer", "BigInteger", "Boolean", "JSON", "LargeBinary", "UtcDateTime"} | {
        CleanText.__name__,
        FaithfulFloat.__name__,
    }


def test_an_array_file_with_objects_inside_is_refused(tmp_path):
    """As for measured tables and embeddings in a cache folder that others can write to."""
    mark = tmp_path / "planted"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    buffer.seek(0)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        np.load(buffer, allow_pickle=False)
    assert not mark.exists()
