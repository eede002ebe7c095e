#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks dependencies with the tools that are there: licences, bans and sources of crates offline, known holes with a
# database where one can be had. Called by `make audit`.
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
failed=()

check() {
    local name=$1 tool=$2
    shift 2
    if ! command -v "$tool" >/dev/null; then
        echo "== $name: skipped, there is no $tool"
        return
    fi
    echo "== $name"
    "$@" || failed+=("$name")
}

check "crates: licences, bans, sources" cargo-deny cargo deny --offline check licenses bans sources
check "crates: known holes" cargo-deny cargo deny check advisories
check "crates of the Rust client: all of that" cargo-deny \
    cargo deny --manifest-path clients/rust/Cargo.toml check
# What an index does not answer for has not been looked at, and must not pass.
check "Python: known holes" pip-audit pip-audit --requirement constraints.txt --no-deps --disable-pip --strict
check "Node: known holes" npm npm --prefix clients/node audit --package-lock-only
check "Go: known holes" govulncheck govulncheck -C clients/go ./...
check "pins and sources" "$BIN/pytest" "$BIN/pytest" -q tests/security/test_dependencies.py

echo
if ((${#failed[@]})); then
    printf 'audit: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "audit: all checks passed"
