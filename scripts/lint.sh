#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every check, also after one has failed, and says at the end which did. Called by `make lint`.
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
failed=()

check() {
    local name=$1
    shift
    echo "== $name"
    "$@" || failed+=("$name")
}

# Compares with the published protos, which are those of the main branch.
buf_breaking() {
    local base
    for base in refs/remotes/origin/main refs/heads/main; do
        if git cat-file -e "$base:proto" 2>/dev/null; then
            git archive "$base" buf.yaml proto third_party/proto | "$BIN/buf" breaking --against "-#format=tar"
            return
        fi
    done
    echo "skipped: no main branch with protos to compare with"
}

# Clients of other languages, where their tools are; continuous integration has them all.
with_tool() {
    local tool=$1
    shift
    if command -v "$tool" >/dev/null; then "$@"; else echo "skipped: $tool is not on the PATH"; fi
}

go_client() {
    local unformatted
    unformatted=$(gofmt -l clients/go) && [ -z "$unformatted" ] && go vet -C clients/go ./... && return
    echo "${unformatted:+not formatted: $unformatted}"
    return 1
}

check "ruff check" "$BIN/ruff" check .
check "ruff format" "$BIN/ruff" format --check .
check "mypy" "$BIN/mypy"
check "stubtest" env MYPYPATH=server "$BIN/stubtest" --mypy-config-file pyproject.toml \
    --allowlist native/stubtest_allowlist.txt taximeter_server._native
check "import-linter" "$BIN/lint-imports" --no-logo
check "cargo fmt" cargo fmt --all --check
check "clippy" cargo clippy --locked --quiet --workspace --all-targets -- -D warnings
check "cargo fmt, rust client" cargo fmt --manifest-path clients/rust/Cargo.toml --check
check "buf lint" "$BIN/buf" lint
check "buf format" "$BIN/buf" format -d --exit-code
check "buf breaking" buf_breaking
check "go client" with_tool go go_client
check "generated stubs" "$BIN/python" scripts/generate.py --check

echo
if ((${#failed[@]})); then
    printf 'lint: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "lint: all checks passed"
