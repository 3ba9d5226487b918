"""``bitfront-search``: one study, or with ``-m`` a sweep of studies.

Nothing heavy is imported until a job starts, so ``--help`` and completion answer at once.
"""

from __future__ import annotations

import os
import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from quant.errors import BitfrontError, UsageError, nearest, unknown


def main() -> None:
    """Entry point; exits with the codes of ``docs/commands.md``."""
    check_own_packages()
    # Lets exceptions reach the handler below instead of Hydra's own, which exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    codes: list[int] = []
    app = hydra.main(version_base="1.3", config_path="pkg://conf", config_name="search")
    try:
        app(partial(_job, codes))()
    except BitfrontError as error:
        fail(error)
    except (HydraException, OmegaConfBaseException) as error:
        fail(readable(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(next((code for code in codes if code), 0))


def fail(error: BitfrontError) -> None:
    """Prints the message on stderr and exits with the error's code."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _job(codes: list[int], config: DictConfig) -> None:
    """One job; a user's mistake in one job of a sweep leaves the others alone."""
    job = HydraConfig.get()
    raw = plain(config)
    if job.mode == RunMode.MULTIRUN:
        raw["run_dir"] = job.runtime.output_dir
    try:
        codes.append(run_job(raw, command()))
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        codes.append(error.exit_code)


def run_job(raw: dict[str, Any], command_line: str) -> int:
    """Runs one study from plain configuration; returns its exit code."""
    from search.plan import describe_plan, make_plan
    from search.progress import say
    from search.settings import Settings
    from search.study import elapsed, run_study

    started = time.monotonic()
    settings = Settings.from_dict(raw)
    plan = make_plan(settings)
    say(describe_plan(plan))
    if settings.dry_run:
        return 0
    outcome = run_study(plan, raw, command_line)
    from reports.page import render_report
    from search.display import show

    page = render_report(outcome.run_dir)
    shown = os.path.relpath(page)
    print(
        f"\nstudy {settings.study}   {len(outcome.table)} candidates "
        f"({int((outcome.table['status'] == 'ok').sum())} ok)   {elapsed(started)}"
    )
    show(outcome.front, settings.objective.quality)
    print(f"report  {shown}")
    return outcome.exit_code


def plain(config: DictConfig) -> dict[str, Any]:
    """The composed configuration as resolved plain data, without Hydra's own part."""
    data = OmegaConf.to_container(config, resolve=True)
    assert isinstance(data, dict)
    return {str(key): value for key, value in data.items() if key not in ("hydra", "experiment")}


def command() -> str:
    """The command line as a person would type it, without machine paths."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def check_own_packages() -> None:
    """Fails clearly when another distribution shadows one of our generic package names.

    Raises:
        UsageError: ``spaces``, ``conf`` or ``reports`` comes from elsewhere.
    """
    import conf
    import reports
    import spaces

    home = Path(__file__).resolve().parent.parent
    for package in (conf, reports, spaces):
        place = Path(str(package.__file__)).resolve().parent.parent
        if place != home:
            raise UsageError(
                f"package '{package.__name__}' is not bitfront's",
                where=str(place),
                fix=f"uninstall the distribution that brings '{package.__name__}', "
                "or use a virtual environment of its own",
            )


def readable(error: Exception) -> UsageError:
    """Hydra's message in our form, with the options and the nearest name."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    if missing := re.search(r"(?:Could not (?:find|load)) '(\w+)/([^']+)'", text):
        group, name = missing.groups()
        options = sorted(path.stem for path in _conf().joinpath(group).glob("*.yaml"))
        return unknown(group, name, options, where=f"{group}={name}")
    if wrong := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(wrong[1])
    what = lines[0] if lines else type(error).__name__
    return UsageError(what, expected="\n    ".join(lines[1:]), fix="bitfront-search --help")


def _unknown_key(key: str) -> UsageError:
    """The error for an override of a key the default configuration does not have."""
    from search.api import compose_plain

    known = _paths(compose_plain([]))
    return UsageError(
        f"unknown key '{key}'",
        where=key,
        expected="a key of the configuration (bitfront-search --help shows all)",
        fix=nearest(key, known) or f"+{key}=... adds it where a group takes further keys",
    )


def _paths(data: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in data.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _paths(value, f"{prefix}{key}.")
    return found


def _conf() -> Path:
    import conf

    return Path(str(conf.__file__)).parent


if __name__ == "__main__":
    main()
