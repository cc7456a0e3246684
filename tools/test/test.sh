#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# test.sh [PATTERN]: build what the chosen tests need, run them, report.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

pattern=${1:-}
case ${CONFIG:-} in
'' | debug) ;;
*) die "CONFIG=$CONFIG is unknown: debug, or nothing" ;;
esac
rm -rf "$BUILD/report"
mkdir -p "$BUILD/report/steps"

"$TOP/tools/build/series.sh" tree
runner=(env "CONFIG=${CONFIG:-}" "$TOP/tools/test/run.py")
needs=$(in_root "${runner[@]}" needs "$pattern")

# step NAME: a step outside the machines that speaks TAP.
step() {
	local name=$1

	shift
	say "$name" "testing"
	"$@" > "$BUILD/report/steps/$name.tap" 2> "$LOGS/step-$name.log" < /dev/null || true
	grep -q '^\(not \)\?ok ' "$BUILD/report/steps/$name.tap" || echo "not ok 1 $name ran" >> "$BUILD/report/steps/$name.tap"
}

step pure in_root "$TOP/tools/test/pure.sh"
[ -n "$pattern" ] || step house "$TOP/tools/test/house.sh"
[ -n "$pattern" ] || step plugins in_root "$TOP/tools/machine/plugins/test.sh"
for kernel in $needs; do
	"$TOP/tools/build/kernel.sh" "$kernel"
	"$TOP/tools/build/kernel.sh" "$kernel" --objects > "$BUILD/kernel-$kernel"
done
"$TOP/tools/build/selftests.sh"
in_root "$TOP/tools/machine/plugins/build" "$BUILD/plugins" > "$LOGS/plugins.log" 2>&1 || die "the plugins do not build: build/log/plugins.log"
say boot "booting the machines"
in_root "${runner[@]}" run "$pattern"
