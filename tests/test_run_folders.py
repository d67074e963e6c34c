"""Run folders where disks are full, processes die, folders move and people mistype: what is recorded, said and kept."""

from __future__ import annotations

import errno
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import hears_control_c
from smalldisk import on_small_disk
from typer.testing import CliRunner, Result

from kgkit import disk, pipeline
from kgkit.cli.main import app
from kgkit.errors import ConfigError, DamagedRun, DiskError, KgkitError
from kgkit.pipeline import TrainOptions
from kgkit.processes import start_time, still_runs, this_process
from kgkit.run import CHECKPOINT, Run, list_runs
from kgkit.store.open import open_store
from kgkit.store.port import GraphStore

SMALL: dict[str, Any] = {"dim": 4, "epochs": 2, "device": "cpu"}
FLAGS = ["--dim", "4", "--epochs", "2", "--device", "cpu"]


def run_kgkit(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def graph(toy_store_path: Path) -> Any:
    with open_store(toy_store_path) as opened:
        yield opened


# -- disks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 400_000])
def test_a_full_disk_under_runs_is_one_line_and_the_run_can_go_on(
    toy_store_path: Path, tmp_path: Path, room: int
) -> None:
    """A checkpoint of 512 dimensions and some 120 entities, with its optimiser and best epoch, is a MB: it has no room."""
    said = on_small_disk(
        "700k",
        tmp_path / "small",
        f"""
        import json
        store, runs = {str(toy_store_path)!r}, place / "runs"
        (place / "other").write_bytes(bytes(700 * 1024 - {room}))
        words = ["--plugin", "distmult", "--dim", 512, "--epochs", 3, "--device", "cpu", "--no-write-back", "-q"]
        code, out, err = kgkit("train", *words, "--store", store, "--runs", runs)
        lines = err.strip().splitlines()
        assert code == 1 and len(lines) == 1, err
        assert lines[0].startswith("error: ") and "is full" in err and f"MiB free" in err and str(place) in err, err
        _, listed, _ = kgkit("runs", "--runs", runs, "--json")
        found = json.loads(listed)
        assert all(r["status"] in ("failed", "interrupted") for r in found), listed
        remount("size=64m")
        for r in found:
            assert f"kgkit train --resume {{r['id']}} --runs {{runs}}" in err, err
            code, out, err = kgkit("train", "--resume", r["id"], "--runs", runs, "--json")
            assert code == 0 and json.loads(out)["status"] == "finished", err
            assert not list(Path(runs, r["id"]).glob(".*")), "what was begun is still there"
        print(len(found))
        """,
    )
    assert int(said) == (1 if room else 0)


def test_a_read_only_disk_is_called_so(toy_store_path: Path, tmp_path: Path) -> None:
    on_small_disk(
        "1m",
        tmp_path / "small",
        f"""
        store, runs = {str(toy_store_path)!r}, place / "runs"
        (place / "page.csv").write_text("whole")
        remount("ro")
        for words in (
            ["train", "--plugin", "popularity", "--store", store, "--runs", runs, "--no-write-back"],
            ["query", "MATCH (n) RETURN count(n)", "--store", store, "-o", place / "page.csv"],
            ["stats", "--store", store, "--report", place / "page.html"],
        ):
            code, out, err = kgkit(*words)
            assert code == 1 and len(err.strip().splitlines()) == 1, err
            assert "read-only file system" in err and "permission" not in err, err
        """,
    )


def test_output_that_finds_no_room_leaves_what_was_there(toy_store_path: Path, tmp_path: Path) -> None:
    on_small_disk(
        "32k",
        tmp_path / "small",
        f"""
        store = {str(toy_store_path)!r}
        for name, words in {{
            "rows.csv": ["query", "MATCH (a)-[r]->(b) RETURN a.id, b.id", "-o"],
            "rows.parquet": ["query", "MATCH (a)-[r]->(b) RETURN a.id, b.id, a.id + b.id", "-o"],
            "page.html": ["stats", "--report"],
        }}.items():
            (place / name).write_text("whole")
            (place / "fill").write_bytes(bytes(20_000))
            code, out, err = kgkit(*words, place / name, "--store", store)
            assert code == 1 and "is full" in err and name in err and len(err.strip().splitlines()) == 1, (name, err)
            assert (place / name).read_text() == "whole", name
            assert sorted(p.name for p in place.iterdir()) == ["fill", name], list(place.iterdir())
            (place / name).unlink()
        """,
    )


def test_a_full_temporary_folder_is_named(tmp_path: Path) -> None:
    said = on_small_disk(
        "1m",
        tmp_path / "small",
        """
        os.environ["TMPDIR"] = str(place)
        import pyarrow as pa
        from kgkit import spill
        from kgkit.errors import KgkitError
        spill.HELD = 1000
        try:
            with spill.SpillFolder() as folder:
                rows = folder.spill("key")
                for at in range(100):
                    rows.add(pa.table({"key": [f"{at}-{i}" for i in range(10_000)]}))
        except KgkitError as error:
            print(error)
        assert not list(place.iterdir())
        """,
    )
    assert "small" in said and "is full" in said and "TMPDIR" in said


def test_devices_and_limits_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("whole")
    code = f"""
import resource
from pathlib import Path
from kgkit import disk
from kgkit.errors import DiskError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    disk.replace(Path({str(file)!r}), lambda file: file.write(bytes(5000)))
except DiskError as error:
    print(error)
try:
    disk.append(Path({str(file)!r}), bytes(5000))
except DiskError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("larger than a file may be") == 2
    assert file.read_text() == "whole" and [p.name for p in tmp_path.iterdir()] == ["rows.csv"]
    if Path("/dev/full").exists():
        with pytest.raises(DiskError, match="is full"), disk.writing(Path("/dev/full")):
            Path("/dev/full").write_bytes(bytes(10))
        with pytest.raises(DiskError, match="is full"):
            disk.replace(Path("/dev/full"), lambda file: file.write(bytes(10)))
        assert not Path("/dev/full").is_file()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    assert "permission denied" in disk.explained(OSError(errno.EACCES, "x"), tmp_path / "a")


# -- processes -------------------------------------------------------------------------------------------------------


def training(store: Path, runs: Path) -> subprocess.Popen[str]:
    """A process that trains, past its first epochs."""
    command = [sys.executable, "-m", "kgkit", "train", "--plugin", "kgcn", "--store", str(store), "--runs", str(runs),
               "--no-write-back", "--quiet", "--dim", "4", "--epochs", "100000", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hears_control_c)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(
        len(p.read_text()) > 400 for p in runs.glob("*/trace.jsonl")
    ):
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_how_a_run_was_stopped_is_recorded(
    toy_store_path: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = training(toy_store_path, tmp_path)
    (record,) = list_runs(tmp_path)
    assert record["status"] == "running" and record["process"]["pid"] == process.pid
    for words in (["train", "--resume", record["id"]], ["runs", "erase", record["id"]]):
        refused = run_kgkit(*words, "--runs", tmp_path)
        assert isinstance(refused.exception, ConfigError) and f"process {process.pid}" in str(
            refused.exception
        )
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), said
    assert "Traceback" not in said and ("--resume" in said) == (number != signal.SIGKILL)
    (record,) = list_runs(tmp_path)
    assert record["status"] == "interrupted"
    assert ("killed" if number == signal.SIGKILL else "SIGTERM") in record["error"]
    assert "interrupted" in run_kgkit("runs", "--runs", tmp_path).output


def test_a_later_process_of_the_same_pid_is_told_apart() -> None:
    me = this_process()
    assert still_runs(me) is True
    assert still_runs({**me, "started": "1"}) is False
    assert still_runs({**me, "boot": "another"}) is False
    assert still_runs({**me, "host": "another"}) is None
    child = subprocess.Popen(["sleep", "60"])
    noted = {**me, "pid": child.pid, "started": start_time(child.pid)}
    assert still_runs(noted) is True
    child.kill()
    child.wait()
    assert still_runs(noted) is False


# -- what is left behind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--ratios", "8:1"],
        ["--ratios", "0:1:1"],
        ["--split", "by-time"],
        ["--split", "nonsense"],
        ["--hops", "-1"],
        ["--init-from", "nothing"],
        ["--select", "nonsense"],
        ["--triples-query", "MATCH (n) RETURN n.id AS head"],
    ],
)
def test_an_invalid_option_leaves_no_run(toy_store_path: Path, tmp_path: Path, words: list[str]) -> None:
    for plugin in ("distmult", "kgcn"):
        done = run_kgkit("train", "--plugin", plugin, "--store", toy_store_path, "--runs", tmp_path / "runs",
                         "--no-write-back", *FLAGS, *words)  # fmt: skip
        assert isinstance(done.exception, KgkitError), done.output
        assert not list((tmp_path / "runs").glob("*")), words


def test_a_finished_run_keeps_no_checkpoint_unless_asked(graph: GraphStore, tmp_path: Path) -> None:
    for keep in (False, True):
        options = TrainOptions(runs=tmp_path, write_back=False, keep_checkpoint=keep)
        run = pipeline.train(graph, "distmult", SMALL, options)
        assert (run.folder / CHECKPOINT).exists() == keep
        assert "process" not in run.record
        assert pipeline.evaluate_again(graph, Run.open(tmp_path, run.id)) == run.record["metrics"]


def test_a_run_is_found_from_another_folder(
    toy_store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_kgkit("train", "--plugin", "distmult", "--store", toy_store_path.name, *FLAGS)
    assert done.exception is None, done.output
    (record,) = list_runs(tmp_path / "runs")
    assert record["store"] == str(toy_store_path)
    assert toy_store_path.name in run_kgkit("runs").output.splitlines()[1].split()  # as it is typed here
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    at = ["--runs", "../runs"]
    assert str(toy_store_path) in run_kgkit("runs", *at).output
    for words in (["report", record["id"]], ["evaluate", record["id"]], ["runs", "erase", record["id"]]):
        done = run_kgkit(*words, *at)
        assert done.exception is None and "without" not in done.output, done.output
    with open_store(toy_store_path) as graph:
        assert not list(graph.query("MATCH (r:Run) RETURN r.id").rows)


def test_a_relative_path_of_an_earlier_version_opens_where_it_did(
    toy_store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(toy_store_path) as graph:
        run = pipeline.train(graph, "distmult", SMALL, TrainOptions(write_back=False))
    old = {k: v for k, v in run.record.items() if k not in ("files", "process")}
    (run.folder / "run.json").write_text(json.dumps({**old, "store": toy_store_path.name}))
    assert run_kgkit("evaluate", run.id).exception is None
    done = run_kgkit(
        "complete", "--plugin", "distmult", "--store", toy_store_path, "--no-write-back", "--json"
    )
    assert done.exception is None, done.output  # the latest run on this store, by whatever path


def test_only_what_is_named_is_erased(graph: GraphStore, tmp_path: Path) -> None:
    options = TrainOptions(runs=tmp_path)
    first, second = (pipeline.train(graph, "distmult", {**SMALL, "seed": seed}, options) for seed in (1, 2))
    graph.close()
    for part in ("distmult", "dist", "distmult-", "distmult-2", first.id[:13], ""):
        done = run_kgkit("runs", "erase", part, "--runs", tmp_path)
        assert isinstance(done.exception, ConfigError), part
        assert first.id in str(done.exception) and second.id in str(done.exception), part
    second.erase()
    done = run_kgkit("runs", "erase", "distmult", "--runs", tmp_path)  # the only one, and still not named
    assert isinstance(done.exception, ConfigError) and first.id in str(done.exception)
    assert [r["id"] for r in list_runs(tmp_path)] == [first.id]
    store = first.record["store"]
    done = run_kgkit("runs", "erase", "distmult", "--runs", tmp_path / "none", "--store", store)
    assert isinstance(done.exception, ConfigError) and second.id in str(done.exception)  # in the graph alone
    assert run_kgkit("runs", "erase", first.id[:-2], "--runs", tmp_path).exception is None
    assert list_runs(tmp_path) == []


def test_a_damaged_run_stands_in_nobodys_way(graph: GraphStore, tmp_path: Path) -> None:
    options = TrainOptions(runs=tmp_path)
    good, bad = (pipeline.train(graph, "distmult", {**SMALL, "seed": seed}, options) for seed in (1, 2))
    store = bad.record["store"]
    graph.close()
    text = (bad.folder / "run.json").read_text()
    (bad.folder / "run.json").write_text(text.replace('"seed": 2', '"seed": 3'))
    with pytest.raises(DamagedRun, match=r"run\.json.*sha256.*erase"):
        Run.open(tmp_path, bad.id)
    listed = run_kgkit("runs", "--runs", tmp_path)
    assert good.id in listed.stdout and bad.id not in listed.stdout and str(bad.folder) in listed.stderr
    assert run_kgkit("evaluate", good.id, "--runs", tmp_path).exception is None
    refused = run_kgkit("runs", "erase", bad.id, "--runs", tmp_path)
    assert isinstance(refused.exception, DamagedRun) and bad.folder.exists()
    done = run_kgkit("runs", "erase", bad.id, "--runs", tmp_path, "--store", store)
    assert done.exception is None and not bad.folder.exists()
    with open_store(store) as left:
        assert [tuple(row) for row in left.query("MATCH (r:Run) RETURN r.id").rows] == [(good.id,)]


def test_a_trace_that_a_kill_cut_is_read_to_its_last_whole_line(graph: GraphStore, tmp_path: Path) -> None:
    def stop(event: str, data: Any) -> None:
        if event == "epoch":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.train(graph, "distmult", SMALL, TrainOptions(runs=tmp_path, write_back=False), stop)
    (record,) = list_runs(tmp_path)
    run = Run.open(tmp_path, record["id"])
    with (run.folder / "trace.jsonl").open("a") as file:
        file.write('{"epoch": 2, "lo')
    (run.folder / f".{CHECKPOINT}.12345").write_bytes(b"torn")
    assert [line["epoch"] for line in run.trace()] == [1]
    done = pipeline.resume(graph, run)
    assert [line["epoch"] for line in done.trace()] == [1, 2]
    assert not list(run.folder.glob(".*"))


@pytest.mark.parametrize("name", ["trace.jsonl", "ranking.json", "relations.json", "model.npz", "split.npz"])
def test_a_file_of_a_finished_run_that_still_parses_is_compared_too(
    graph: GraphStore, tmp_path: Path, name: str
) -> None:
    options = TrainOptions(runs=tmp_path, write_back=False)
    run, other = (pipeline.train(graph, "distmult", {**SMALL, "seed": seed}, options) for seed in (1, 2))
    text = (other.folder / name).read_bytes()
    (run.folder / name).write_bytes(text + b"\n" if name == "relations.json" else text)
    graph.close()
    done = run_kgkit("report", run.id, "--runs", tmp_path)
    assert f"{name}: it is not the file that the run wrote" in f"{done.exception} {done.output}"
