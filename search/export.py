"""``bitfront-export``: a policy of a run as a file a runtime executes, judged in that runtime."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from quant.errors import BitfrontError, UsageError, unknown

HELP = """bitfront-export run=RUN policy=POLICY [format=FORMAT] [out=FOLDER] [coded=true]

run      directory of a finished run
policy   one, or several with commas: knee, accurate, smallest or fastest (picks of the report);
         an id or its beginning; the tag of a baseline (fp32, w8a8); smallest_within:0.5pt or
         fastest_within:0.5pt (cheapest whose search-split accuracy is at most half a point below
         float); front (all of them)
format   onnx      static int8 and 8/4/2-bit weights for ONNX Runtime (default)
         openvino  the same for OpenVINO
         torch     packed integers as safetensors, any format
         json      choices, grids and scales
out      where to write; RUN/exports when absent
coded    Huffman-coded weights, format=torch only

Every file is run on the test split and timed beside float32 and uniform int8; the figures go to
export.json and card.md beside it, and into the run's report.

Examples
  bitfront-export run=runs/demo policy=knee
  bitfront-export run=runs/demo policy=fastest_within:0.5pt
  bitfront-export run=runs/demo policy=knee format=torch coded=true
  bitfront-export run=runs/demo policy=fp32,w8a8,knee    # timed in one session
  bitfront-export run=runs/demo policy=front
"""
KEYS = ("run", "policy", "format", "out", "coded")


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point; exits with the codes of ``docs/commands.md``."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(HELP)
        return
    try:
        _run(_settings(words), " ".join(["bitfront-export", *words]))
    except BitfrontError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _settings(words: Sequence[str]) -> dict[str, str]:
    found = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise UsageError(f"'{word}' is not a setting", expected="key=value")
        if key not in KEYS:
            raise unknown("key", key, KEYS, where="bitfront-export")
        found[key] = value
    for key in ("run", "policy"):
        if not found.get(key):
            raise UsageError(
                f"{key}=... is missing",
                where="bitfront-export",
                fix="bitfront-export run=runs/demo policy=knee",
            )
    if found.get("coded", "false") not in ("true", "false"):
        raise UsageError(f"coded is '{found['coded']}'", expected="true or false")
    return found


def _run(found: dict[str, str], command: str) -> None:
    from reports.page import render_report
    from search.exporting.artefact import FORMATS
    from search.exporting.check import summary
    from search.exporting.run import open_run
    from search.exporting.write import Options, export

    kind = found.get("format", "onnx")
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, where="format")
    run = open_run(Path(found["run"]))
    out = Path(found["out"]) if "out" in found else None
    options = Options(kind, out, found.get("coded") == "true", command)
    words = [word for word in found["policy"].split(",") if word]
    names = dict.fromkeys(name for word in words for name in run.choose(word))
    records = export(run, list(names), options)
    for record in records:
        roles = f"  {', '.join(record['roles'])}" if record["roles"] else ""
        place = (out or run.path / "exports") / f"{record['policy_id']}-{kind}"
        print(f"{record['policy_id']}{roles}\n  {place}")
        for line in summary(record):
            print(f"  {line}")
    if out is None:
        print(f"report  {render_report(run.path)}")


if __name__ == "__main__":
    main()
