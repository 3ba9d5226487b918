#!/usr/bin/env bash
# Measures the README's results table again: docs/results.sh runs/demo
# Exports baselines and picks of a run that has no exports yet in one session and writes the table between the README's marks.
set -euo pipefail
run=${1:-runs/demo}
readme=$(dirname "$0")/../README.md
bitfront-export run="$run" policy=fp32,w8a8,accurate,knee,smallest
python -m reports.results "$run" > "$run/results.md"
python - "$readme" "$run/results.md" <<'PY'
import re
import sys
from pathlib import Path

readme, table = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
marks = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)
readme.write_text(marks.sub(lambda found: found[1] + table + found[2], readme.read_text()))
PY
