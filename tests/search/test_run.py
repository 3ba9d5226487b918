"""The command line: messages and exit codes of a user's mistakes, and what --help costs."""

import os
import subprocess
import sys

import pytest

from search import run


def search(capsys, monkeypatch, *words):
    """Runs the command in this process; returns (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "argv", ["bitfront-search", *words])
    code = 0
    try:
        run.main()
    except SystemExit as stop:
        code = stop.code or 0
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def command(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: search(capsys, monkeypatch, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=randm"], "unknown strategy 'randm'"),
        (["strategy=[random,hawk]"], "did you mean 'hawq'?"),
        (["task=digit_resnet"], "did you mean 'digits_resnet'?"),
        (["space=w234"], "did you mean 'w2348'?"),
        (["budgte.evaluations=3"], "did you mean 'budget.evaluations'?"),
        (["+budget.evals=3"], "unknown key 'evals' in budget"),
        (["budget.evaluations=abc"], "budget.evaluations is 'abc'"),
        (["budget.evaluations=-1"], "budget.evaluations is -1"),
        (["budget.evaluations=0"], "expected: more than 0"),
        (["budget.seconds=nan"], "budget.seconds is nan"),
        (["seeds=[]"], "no seed given"),
        (["seeds=[1,1]"], "expected: different integers, 0 or more"),
        (["strategy=[]"], "no strategy chosen"),
        (["objective.quality=cee"], "did you mean 'ce'?"),
        (["objective.costs=[size]"], "did you mean 'size_bytes'?"),
        (["objective.costs=[]"], "objective.costs is empty"),
        (["method.weight_calibrator=msee"], "did you mean 'mse'?"),
        (["runner.workers=0"], "runner.workers is 0"),
        (["resume=maybe"], "unknown resume mode 'maybe'"),
        (["space.weights=[int9src]"], "9 bits is out of range"),
        (["space.weights=[]"], "space offers no choice"),
        (["strategy.greedy._target_=os.system"], "outside the allowed packages"),
        (["+strategy.random.speed=9"], "unknown key 'speed' in strategy.random"),
        (["seeds=[1"], "error:"),
    ],
)
def test_a_mistake_costs_one_message_exit_code_2_and_nothing_on_disk(
    command, tmp_path, words, message
):
    code, out, err = command(*words)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "runs").exists()


def test_an_unknown_name_lists_the_options(command):
    _, _, err = command("strategy=randm")
    assert "one of:" in err
    assert "hawq" in err


@pytest.fixture
def tiny_task():
    """digits_resnet shrunk until it trains in a second."""
    return ["task.width=2", "task.epochs=1", "runner=local"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(command, tiny_task, tmp_path):
    code, _, err = command(*tiny_task, "dry_run=true")
    assert code == 0
    assert "16 layers in 16 groups" in err
    assert "60 evaluations each" in err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_layer_name_in_a_rule_is_refused(command, tiny_task, tmp_path):
    rule = "space.rules=[{name: stge1, choices: [int8src/int8ut]}]"
    code, _, err = command(*tiny_task, rule)
    assert code == 2
    assert "rule name 'stge1' matches no layer" in err
    assert not (tmp_path / "runs").exists()


def test_an_infeasible_budget_prints_the_reachable_range_and_exits_3(command, tiny_task, tmp_path):
    code, _, err = command(*tiny_task, "space.constraints=[{size_bytes: 100}]")
    assert code == 3
    assert "size_bytes <= 100 cannot be reached" in err
    assert " to " in err
    assert not (tmp_path / "runs").exists()


def test_a_run_directory_that_cannot_be_made_exits_4(command, tiny_task, tmp_path):
    (tmp_path / "plain").write_text("")
    code, _, err = command(*tiny_task, "run_dir=plain/run")
    assert code == 4
    assert "the run directory cannot be written" in err


def test_a_small_study_ends_with_a_table_and_a_report(command, tiny_task, tmp_path):
    words = [*tiny_task, "strategy=[random,greedy]", "budget.evaluations=3", "study=small"]
    code, out, err = command(*words)
    assert code == 0, err
    assert "study small" in out
    assert "fp32" in out
    assert "report  runs/small/report.html" in out
    assert (tmp_path / "runs" / "small" / "report.html").exists()
    assert "Traceback" not in err


def test_too_few_successes_exit_6(command, tiny_task):
    words = [*tiny_task, "strategy=random", "budget.evaluations=2", "study=few", "min_success=99"]
    code, _, err = command(*words)
    assert code == 6
    assert "99 are asked for" in err


def test_help_imports_neither_torch_nor_ray():
    script = (
        "import sys; sys.argv = ['bitfront-search', '--help']\n"
        "import search.run\n"
        "try: search.run.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'pandas', 'optuna', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "strategy" in done.stdout
    assert "bitfront-search task=digits_vit space=cpu_ort" in done.stdout


def test_a_sweep_runs_every_job_and_survives_a_bad_one(command, tiny_task, tmp_path):
    words = ["-m", *tiny_task, "strategy=random", "study=sweep", "budget.evaluations=1,-1,2"]
    code, _, err = command(*words)
    assert code == 2
    jobs = tmp_path / "runs" / "sweep" / "multirun"
    assert (jobs / "0" / "report.html").exists()
    assert not (jobs / "1" / "report.html").exists()
    assert (jobs / "2" / "report.html").exists()
    assert "budget.evaluations is -1" in err


@pytest.mark.slow
def test_a_sweep_starts_one_ray_for_all_jobs(command, tiny_task, tmp_path, monkeypatch):
    import ray

    from search.runner import cluster

    starts, start = [], ray.init
    monkeypatch.setattr(ray, "init", lambda **more: starts.append(more) or start(**more))
    words = ["-m", *tiny_task[:2], "strategy=random", "study=both", "budget.evaluations=1,2"]
    try:
        code, _, err = command(*words, "runner.workers=1")
    finally:
        cluster.shutdown()
    assert code == 0, err
    assert len(starts) == 1
    for job in ("0", "1"):
        assert (tmp_path / "runs" / "both" / "multirun" / job / "report.html").exists()


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("bitfront-search task=dig", ["task=digits_resnet", "task=digits_vit"]),
        ("bitfront-search budget.eval", ["budget.evaluations="]),
        ("bitfront-search tracker=m", ["tracker=mlflow"]),
    ],
)
def test_tab_completion_knows_groups_and_keys(line, options):
    done = subprocess.run(
        [sys.executable, "-c", "import search.run; search.run.main()", "-sc", "query=bash"],
        capture_output=True, text=True, check=True, env={**os.environ, "COMP_LINE": line},
    )  # fmt: skip
    assert done.stdout.split() == options
