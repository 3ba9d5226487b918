"""``bitfront-bench SUITE [key=value ...]``: figures as JSON lines, a table on stderr.

Exits 0 whether or not a bar is met: a benchmark reports, people decide.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence

from quant.errors import BitfrontError, UsageError, unknown

HELP = """bitfront-bench SUITE [key=value ...]

Suites: {suites}
Settings are those of bitfront-search, for example task=digits_vit space=w2348.

Examples
  bitfront-bench evaluate                       # cost of a candidate against a float forward
  bitfront-bench evaluate task=digits_vit
  bitfront-bench ptq task=digits_resnet         # what each repair gains over plain rounding
  bitfront-bench calibration                    # all formats against one: time, passes, memory
  bitfront-bench latency                        # predicted against measured latency, five networks
  bitfront-bench dnas                           # a step of differentiable search against training
  bitfront-bench export                         # exported files and integers against simulations
  bitfront-bench strategies                     # strategies against the true optimum
  bitfront-bench strategies task=digits_resnet space=w2348_a48
  bitfront-bench faults                         # studies killed at random moments
  bitfront-bench throughput                     # what the platform adds to an evaluation
  bitfront-bench scaling                        # two workers against one; a study's fixed cost
  bitfront-bench evaluate > figures.jsonl       # JSON lines only; the table goes to stderr
"""


HELPERS = ("arena", "base", "networks", "nodes")


def suites() -> list[str]:
    """Names of the suites that are there."""
    import search.benches

    names = [item.name for item in pkgutil.iter_modules(search.benches.__path__)]
    return sorted(name for name in names if name not in HELPERS)


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(suites=", ".join(suites())))
        return
    try:
        _run(words[0], words[1:])
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _run(suite: str, overrides: Sequence[str]) -> None:
    if suite not in suites():
        raise unknown("suite", suite, suites())
    for word in overrides:
        if "=" not in word:
            raise UsageError(f"'{word}' is not a setting", expected="key=value")
    from search.api import compose_plain

    module = importlib.import_module(f"search.benches.{suite}")
    print(f"{'case':40s} {'metric':28s} {'value':>9s}  95 % interval     bar", file=sys.stderr)
    # A suite with settings of its own reads them itself.
    read = getattr(module, "read", compose_plain)
    for item in module.run(read(overrides)):
        print(item.to_json(), flush=True)
        low, high = item.interval
        sign = "<=" if item.better == "lower" else ">="
        bar = "" if item.bar is None else f"{sign} {item.bar:g} {'met' if item.met else 'MISSED'}"
        print(
            f"{item.case:40s} {item.metric:28s} {item.value:9.4g}  [{low:.4g}, {high:.4g}]  {bar}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
