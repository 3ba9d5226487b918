#!/usr/bin/env bash
# Takes the pictures of the README from a rendered run: docs/images/make.sh runs/demo
set -euo pipefail
run=$(cd "${1:-runs/demo}" && pwd)
out=$(cd "$(dirname "$0")" && pwd)
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
chromium --headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --user-data-dir="$profile" \
  --hide-scrollbars --window-size=1280,2320 --virtual-time-budget=6000 --screenshot="$out/report.png" "file://$run/report.html" 2>/dev/null
