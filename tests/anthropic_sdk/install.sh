#!/bin/sh
# Installs Anthropic's SDK for Python, for `cargo test --features peers --test anthropic_sdk`.
# Needs python3 (3.10 or newer, with venv).
set -eu
cd "$(dirname "$0")/../.."
command -v python3 >/dev/null || { echo "$0: python3 is not there; install it first" >&2; exit 1; }
into="${CARGO_TARGET_DIR:-target}/anthropic_sdk"
[ -x "$into/bin/python" ] || python3 -m venv "$into"
"$into/bin/python" -m pip install --quiet --requirement tests/anthropic_sdk/requirements.txt
