#!/usr/bin/env bash
# The worker: what its build gets, and which edits rebuild it.
# shellcheck source=tests/nix/support.sh
source "$(dirname "${BASH_SOURCE[0]}")/../support.sh"

crate=$(read_output packages.x86_64-linux.default crate)
assert "the worker is the crate, version $version" "$crate" \
    '.function == "buildPackage" and .pname == "descartes-worker" and .version == "'"$version"'"'
assert 'the worker is built without running its tests' "$crate" '.doCheck == false'
assert 'the dependencies of the worker are built separately, from the same sources' "$crate" \
    '.dependencies.function == "buildDepsOnly" and .dependencies.files == .files'
assert 'the worker does not wait for the tests: its dependencies are neither checked nor tested' "$crate" \
    '.dependencies.doCheck == false and .dependencies.cargoCheckCommand == "true"'
assert 'the worker can export traces, and its dependencies are built for that' "$crate" '
    .cargoExtraArgs == "--locked --features otel" and .dependencies.cargoExtraArgs == .cargoExtraArgs'
assert 'the worker has the licenses of the manifest' "$crate" '
    (.license | join(" OR ")) == "'"$(sed -n 's/^license = "\(.*\)"/\1/p' Cargo.toml)"'"'
assert 'the package has the man page and the completions of three shells where man and the shells look for them' "$crate" '
    .postInstall as $install
    | ["share/man/man1/descartes-worker.1", "completions/descartes-worker", "site-functions/_descartes-worker", "vendor_completions.d/descartes-worker.fish"]
    | all(. as $path | $install | contains($path))'
assert 'the build of the worker gets the manifest, the lock and src/, and nothing else' "$crate" '
    (.files | map(select(startswith("src/") | not)) | sort) == ["Cargo.lock", "Cargo.toml"]
    and (.files | index("src/main.rs") != null)'
assert 'the build of the worker gets every file that the sources include' "$(missing_includes src <<<"$crate")" '. == ""'

# Cargo refuses a manifest with a target whose file is missing, if the manifest does not name the path.
assert 'the manifest names the file of every test and benchmark' "$manifest" '
    (.test + .bench + (.example // [])) | length > 0 and all(has("path"))'

exit "$failed"
