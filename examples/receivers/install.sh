#!/bin/sh
# Installs what the example receivers need, for `cargo test --features peers --test peers`.
# Wants python3 (3.10 or newer, with venv) and node (20 or newer, with npm).
set -eu
cd "$(dirname "$0")/../.."
for tool in python3 node npm; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not there; install it first" >&2; exit 1; }
done
venv="${CARGO_TARGET_DIR:-target}/receivers/python"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --requirement examples/receivers/python/requirements.txt
cd examples/receivers/typescript
npm ci --no-audit --no-fund --loglevel=error
npm run --silent build
