"""Trackers: whatever tool, the same candidates once, and never at the study's expense."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
import yaml

from quant.errors import UsageError
from search.targets import build
from search.trackers.base import Record, Tracker, track
from search.trackers.mlflow import MlflowTracker
from search.trackers.optuna_storage import OptunaTracker
from search.trackers.tensorboard import TensorboardTracker
from tests.search.trackers.records import SPACE, record

CONF = Path(__file__).parents[3] / "conf" / "tracker"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


def made(name, folder):
    text = (CONF / f"{name}.yaml").read_text().replace("${run_dir}", str(folder))
    assert text.startswith("# ")
    data = yaml.safe_load(text)
    assert list(data) == [name], "each file writes its own key, so that lists merge"
    return build(data[name], (), where=name)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_group_makes_a_tracker_that_stays_in_the_run_directory(name, tmp_path):
    tracker = made(name, tmp_path / "run")
    assert isinstance(tracker, Tracker)
    try:
        tracker.check(name)
    except UsageError as missing:
        pytest.skip(str(missing).splitlines()[0])
    (tmp_path / "run").mkdir()
    place = tracker.write(record(tmp_path / "run"))
    assert str(tmp_path) in place
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def loaded(path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    return optuna.load_study(study_name="toy", storage=storage)


def test_optuna_opens_the_study_with_its_objectives_and_candidates(tmp_path):
    found = record(tmp_path, failed=(2,))
    OptunaTracker(f"sqlite:///{tmp_path}/o.db").write(found)
    study = loaded(tmp_path / "o.db")
    assert study.metric_names == ["ce", "size_bytes"]
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE"]
    states = [trial.state.name for trial in study.trials]
    assert (states.count("COMPLETE"), states.count("FAIL")) == (8, 2)
    rows = {(row["strategy"], row["seq"]): row for row in found.table.to_dict("records")}
    for trial in study.trials:
        row = rows[trial.user_attrs["strategy"], trial.user_attrs["seq"]]
        assert trial.params == found.choices(row["codes"])
        assert set(trial.params) == {group.name for group in SPACE.groups}
        if trial.state.name == "COMPLETE":
            assert trial.values == [row["ce"], row["size_bytes"]]
        else:
            assert trial.user_attrs["error"] == "no memory"
    best = {tuple(trial.values) for trial in study.best_trials}
    fine = found.table[found.table["status"] == "ok"][["ce", "size_bytes"]].to_numpy()
    front = {
        tuple(p) for p in fine if not ((fine <= p).all(axis=1) & (fine < p).any(axis=1)).any()
    }
    assert best == front


def test_a_file_is_written_in_one_step_and_again_without_doubles(tmp_path):
    tracker = OptunaTracker(f"sqlite:///{tmp_path}/deep/o.db")
    tracker.write(record(tmp_path, 3))
    tracker.write(record(tmp_path, 5))
    assert len(loaded(tmp_path / "deep" / "o.db").trials) == 10
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["o.db"]


def test_a_server_gets_only_what_it_lacks(tmp_path, monkeypatch):
    # Any URL that is not a file counts as a server; SQLite's other spelling stands for one.
    url = f"sqlite+pysqlite:///{tmp_path}/server.db"
    OptunaTracker(url).write(record(tmp_path, 3))
    OptunaTracker(url).write(record(tmp_path, 5))
    trials = loaded(tmp_path / "server.db").trials
    assert len(trials) == 10
    assert (
        len({trial.user_attrs["quality_key"] + trial.user_attrs["strategy"] for trial in trials})
        == 10
    )


def test_the_password_of_a_server_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setattr("search.trackers.optuna_storage._fill", lambda storage, record: None)
    monkeypatch.setattr(optuna.storages, "RDBStorage", str)
    place = OptunaTracker("postgresql://me:secret@host/db").write(record(tmp_path))
    assert place == "host/db"


def test_a_storage_without_a_scheme_is_refused():
    with pytest.raises(UsageError, match="sqlite:///FILE"):
        OptunaTracker("optuna.db")


READ_EVENTS = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1]).Reload()
names = events.Tags()["scalars"]
print(json.dumps({n: [[item.step, item.value] for item in events.Scalars(n)] for n in names}))
"""


def events_in(folder):
    """Scalars by name, read in a process of its own: TensorBoard's reader stays out of ours."""
    done = subprocess.run(
        [sys.executable, "-c", READ_EVENTS, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="extra tensorboard")
def test_tensorboard_gets_every_objective_at_every_step(tmp_path):
    found = record(tmp_path, failed=(2,))
    for _ in range(2):
        TensorboardTracker(str(tmp_path / "tb")).write(found)
    for trial, rows in found.trials():
        events = events_in(tmp_path / "tb" / "toy" / trial)
        assert set(events) == {"ce", "kl", "accuracy", "size_bytes"}
        for name, pairs in events.items():
            wanted = rows[rows[name].notna()]
            assert [step for step, _ in pairs] == wanted["seq"].tolist()
            assert [value for _, value in pairs] == pytest.approx(wanted[name].tolist())


def test_mlflow_gets_every_candidate_once_however_often_it_is_told(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="extra mlflow")
    uri = f"sqlite:///{tmp_path}/m.db"
    for count in (3, 5, 5):
        MlflowTracker(uri).write(record(tmp_path, count))
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("toy")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["nsga2-0", "random-0"]
    final = dict(record(tmp_path, 5).trials())
    for run in runs:
        assert run.data.params["config_hash"] == "ab"
        history = client.get_metric_history(run.info.run_id, "ce")
        rows = final[run.info.run_name]
        assert [(item.step, item.value) for item in history] == list(
            zip(rows["seq"], rows["ce"], strict=True)
        )


class Breaking(Tracker):
    def write(self, record: Record) -> str:
        raise ConnectionError("no server\nat all")


class Counting(Tracker):
    calls = 0

    def write(self, record: Record) -> str:
        self.calls += 1
        return "there"


def test_a_tracker_that_fails_is_a_warning_and_the_others_go_on(tmp_path, capsys):
    counting = Counting()
    track({"broken": Breaking(), "fine": counting}, record(tmp_path))
    err = capsys.readouterr().err
    assert "warning: tracker broken: ConnectionError: no server\n" in err
    assert "tracker fine: 10 candidates -> there" in err
    assert "Traceback" not in err
    assert counting.calls == 1


@pytest.mark.parametrize("kind", [MlflowTracker, TensorboardTracker])
def test_a_missing_package_is_named_with_its_extra(kind, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        kind("x").check("some")
    assert "tracker 'some' needs" in str(caught.value)
    assert "bitfront[some]" in str(caught.value)


def test_importing_trackers_imports_none_of_their_tools():
    script = (
        "import sys, search.trackers.mlflow, search.trackers.tensorboard\n"
        "assert not {'mlflow', 'tensorboardX'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
