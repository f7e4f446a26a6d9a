#!/bin/sh
# Runs all tests and counts what was skipped; with LOCKER_TEST_ALL=1 a skipped test is a failure.
set -u
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
status=0
go test -timeout 40m -v ./... >"$out" 2>&1 || status=$?
# The whole output of a failure, and otherwise one line for each package.
if [ "$status" -ne 0 ]; then
	grep -v -E '^(=== |\s*--- (PASS|SKIP))' "$out"
else
	grep -E '^(ok|FAIL|\?|---? ?FAIL)' "$out"
fi
passed=$(grep -c -E '^\s*--- PASS' "$out")
failed=$(grep -c -E '^\s*--- FAIL' "$out")
skipped=$(grep -c -E '^\s*--- SKIP' "$out")
if [ "$skipped" -gt 0 ]; then
	echo "skipped:"
	# go test -v prints what a test says before it prints how it ended.
	awk '/^ *--- SKIP/ { print "  " $0; print "  " before } !/^=== / { before = $0 }' "$out" | head -80
fi
if [ "$status" -eq 0 ] && [ "$skipped" -gt 0 ] && [ -n "${LOCKER_TEST_ALL:-}" ]; then
	echo "LOCKER_TEST_ALL is set: a skipped test is a failure" >&2
	status=1
fi
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || [ "$skipped" -gt 0 ] || failed=1
# Once more at the end what the failed ones said, since who reads a long log often has its end alone.
if [ "$failed" -gt 0 ]; then
	echo "failed:"
	awk '/^=== / { test = $3; next }
		/^ *--- FAIL/ { failed[$3] = 1; order[++n] = $3 }
		!/^ *--- / { if (++lines[test] <= 25) said[test] = said[test] "  " substr($0, 1, 400) "\n" }
		END { for (i = 1; i <= n; i++) printf "%s\n%s", order[i], said[order[i]] }' "$out" | head -80
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
