#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks dependencies with the tools that are there: licences, bans and sources of crates offline, known holes with a
# database where one can be had. A check that cannot be made is named with the reason at the end; only a finding, and
# what nobody understands, is a failure. Called by `make audit`.
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-.venv/bin}
FOUND='^Found [0-9]+ known vulnerabilit|^[0-9]+ .*vulnerabilit|^error\[|^Vulnerability #'
# Of cargo-deny, pip-audit, npm and govulncheck, in this order: their database did not answer.
UNANSWERED='failed to fetch advisory database|could not be audited|^requests\.exceptions\.|ERROR:.*(HTTP|onnect)'
UNANSWERED+='|^npm warn audit [45][0-9]{2} |audit endpoint returned an error'
UNANSWERED+='|code E(AI_AGAIN|CONNREFUSED|CONNRESET|NOTFOUND|TIMEDOUT)'
UNANSWERED+='|fetching vulnerabilities:|^go: .*(dial tcp|i/o timeout|proxyconnect)'
failed=()
not_made=()
output=$(mktemp)
trap 'rm -f "$output"' EXIT

check() {
    local name=$1 tool=$2 status=0
    shift 2
    if ! command -v "$tool" >/dev/null; then
        not_made+=("$name: there is no $tool")
        return
    fi
    echo "== $name"
    "$@" 2>&1 | tee "$output" || status=1
    if ((status)) && { grep -qE "$FOUND" "$output" || ! grep -qE "$UNANSWERED" "$output"; }; then
        failed+=("$name")
    elif grep -qE "$UNANSWERED" "$output"; then
        not_made+=("$name: $(grep -E "$UNANSWERED" "$output" | head -1 | tr -s ' ')")
    fi
}

for manifest in Cargo.toml clients/rust/Cargo.toml; do
    check "crates of $manifest: licences, bans, sources" cargo-deny \
        cargo deny --offline --manifest-path "$manifest" check --hide-inclusion-graph licenses bans sources
    check "crates of $manifest: known holes" cargo-deny cargo deny --manifest-path "$manifest" check advisories
done
check "Python: known holes" pip-audit pip-audit --requirement constraints.txt --no-deps --disable-pip
check "Node: known holes" npm npm --prefix clients/node audit --package-lock-only
check "Go: known holes" govulncheck govulncheck -C clients/go ./...
check "pins and sources" "$BIN/pytest" "$BIN/pytest" -q tests/security/test_dependencies.py

echo
if ((${#not_made[@]})); then
    printf 'audit: not made: %s\n' "${not_made[@]}"
fi
if ((${#failed[@]})); then
    printf 'audit: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "audit: nothing found by the checks that were made"
