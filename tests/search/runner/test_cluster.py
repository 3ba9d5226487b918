"""Refusing addresses and machines before time is spent, in one message each."""

import os
import socket

import pytest

from quant.errors import DataError, UsageError
from search.runner import cluster
from search.settings import RunnerSettings


@pytest.mark.parametrize(
    "address", ["auto", "", "here", "ray://head:10001", "head:", ":6379", "head:70000", "a b:1"]
)
def test_what_is_no_address_of_a_cluster_is_refused(address):
    with pytest.raises(UsageError) as caught:
        cluster.check_runner(RunnerSettings(address=address))
    assert "is not the address of a cluster" in str(caught.value)
    assert "HOST:PORT" in str(caught.value)


def test_an_address_nothing_answers_at_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UsageError) as caught:
        cluster.check_runner(RunnerSettings(address=f"127.0.0.1:{port}"))
    message = str(caught.value)
    assert f"nothing answers at '127.0.0.1:{port}'" in message
    assert "Connection refused" in message
    assert "leave runner.address out" in message


def test_an_address_that_answers_passes():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        cluster.check_runner(RunnerSettings(address=f"127.0.0.1:{port}"))


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(cluster, "cores", lambda: 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 5}, "runner.workers is 5, each with 1 CPUs; this process may use 4"),
        ({"workers": 3, "threads": 2}, "expected: at most 2"),
        ({"workers": 2, "cpus": 3.0}, "expected: at most 1"),
        ({"cpus": 99.0}, "a trial asks for 99 CPUs, this process may use 4"),
        ({"evaluators": 5}, "runner.evaluators is 5, this process may use 4 cores"),
    ],
)
def test_more_than_the_machine_has_is_refused(four_cores, settings, message):
    with pytest.raises(UsageError) as caught:
        cluster.check_runner(RunnerSettings(**settings))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "trials"),
    [
        ({}, 4),
        ({"workers": 3}, 3),
        ({"threads": 2}, 2),
        ({"threads": 3}, 1),
        ({"threads": 8}, 1),
        ({"evaluators": 4}, 4),
        ({"cpus": 0.5}, 4),
    ],
)
def test_as_many_trials_as_cores_hold(four_cores, settings, trials):
    assert cluster.workers(RunnerSettings(**settings)) == trials


def test_cores_are_those_this_process_may_use():
    assert cluster.cores() == len(os.sched_getaffinity(0))


def test_a_node_sees_a_file_only_with_the_right_word_in_a_place_it_may_write(tmp_path):
    with cluster._token(tmp_path) as (path, word):
        assert cluster.is_seen(path, word)
        assert not cluster.is_seen(path, "of another cluster")
    assert not cluster.is_seen(path, word)
    assert list(tmp_path.iterdir()) == []


def test_nodes_without_the_run_directory_are_counted_and_named(tmp_path):
    cluster.refuse_blind(tmp_path, [], 3)
    with pytest.raises(DataError) as caught:
        cluster.refuse_blind(tmp_path, ["0123456789abcdef"], 3)
    assert "1 of 3 nodes do not see the run directory (01234567)" in str(caught.value)
    assert "run_dir=PATH" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("cause", "fix"),
    [
        (ConnectionError("no"), "same Ray and Python versions"),
        (PermissionError("sockets/plasma_store"), "runs as another user on this machine"),
        (RuntimeError("Failed to connect to GCS. InvalidAuthToken: missing"), "RAY_AUTH_TOKEN"),
    ],
)
def test_a_refusal_says_what_to_do(cause, fix):
    error = cluster._refused("head:6379", cause)
    assert "the cluster at 'head:6379' cannot be joined" in str(error)
    assert fix in error.fix


def test_a_reason_deep_in_the_chain_is_found():
    try:
        try:
            raise RuntimeError("ray.exceptions.AuthenticationError: token")
        except RuntimeError as deep:
            raise ConnectionError("Failed to connect") from deep
    except ConnectionError as outer:
        assert "RAY_AUTH_MODE=token" in cluster._refused("head:6379", outer).fix
