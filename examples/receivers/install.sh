#!/bin/sh
# Installs what the example receivers need, for `cargo test --features peers --test peers`.
# Needs python3 (3.10 or newer, with venv) and node (20 or newer, with npm).
set -eu
cd "$(dirname "$0")/../.."
for tool in python3 node npm; do
    command -v "$tool" >/dev/null || { echo "$0: $tool is not there; install it first" >&2; exit 1; }
done
directory="${CARGO_TARGET_DIR:-target}/receivers"
mkdir -p "$directory/typescript"
[ -x "$directory/python/bin/python" ] || python3 -m venv "$directory/python"
"$directory/python/bin/python" -m pip install --quiet --requirement examples/receivers/python/requirements.txt
# A new copy, so that modules and built files do not get into the sources, and deleted sources do not stay.
rm -rf "$directory/typescript/src"
cp -R examples/receivers/typescript/src examples/receivers/typescript/*.json "$directory/typescript/"
cd "$directory/typescript"
npm ci --no-audit --no-fund --loglevel=error
npm run --silent build
