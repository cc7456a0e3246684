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
# ONLY is looked at before anything is built but the root.
"$TOP/tools/build/root.sh"
names=$(in_root "$TOP/tools/test/run.py" names)
words=$(sed -n 's/^for //p' <<< "$names")
names=$(grep -v '^for ' <<< "$names")
case $pattern in
'' | house | plugins | breaks | pure) ;;
=*) grep -qxF -- "${pattern#=}" <<< "$names" || die "there is no boot '${pattern#=}' in tools/test/matrix" ;;
*)
	grep -qF -- "$pattern" <<< "$names $words" ||
		die "ONLY=$pattern matches nothing; it may be part of a boot's name or one of: $(paste -sd' ' <<< "$words") plugins breaks pure"
	;;
esac
rm -rf "$BUILD/report"
mkdir -p "$BUILD/report/steps"

"$TOP/tools/build/series.sh" tree
runner=(env "CONFIG=${CONFIG:-}" "$TOP/tools/test/run.py")
case $pattern in
# What is not on a machine.
plugins | pure) needs='' pattern_of_boots='=none' ;;
breaks) needs=$'armature\nmodel\noracle' pattern_of_boots='=none' ;;
*) needs=$(in_root "${runner[@]}" needs "$pattern") pattern_of_boots=$pattern ;;
esac

# What is counted in instructions takes the base kernel, and ours without what finds bugs.
counted() {
	[ -z "${CONFIG:-}" ] || return
	case $pattern in '' | debug_topology | memory_model) ;; *) false ;; esac
}
! counted || needs=$(printf '%s\n' $needs vanilla | sort -u)

# The emulator of the machine model builds beside what follows, which leaves a CPU
# idle whenever rustc works, and ends with it.
model=
case " $(paste -sd' ' <<< "$needs") " in
*' model '*)
	setsid nice -n 10 "$TOP/tools/machine/qemu.sh" > "$BUILD/qemu-model.new" < /dev/null &
	model=$!
	trap 'kill -- "-$model" 2> /dev/null' EXIT
	;;
esac

# step NAME: a step outside the machines that speaks TAP.
step() {
	local name=$1 tap=$BUILD/report/steps/$1.tap rc=0 plan

	shift
	say "$name" "testing"
	"$@" > "$tap" 2> >(tee "$LOGS/step-$name.log" >&2) < /dev/null || rc=$?
	# A step that died half-way has not passed.
	plan=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$tap" | tail -n 1)
	[ "${plan:-none}" = "$(grep -cE '^(not )?ok ' "$tap")" ] && { [ $rc = 0 ] || grep -q '^not ok' "$tap"; } ||
		echo "not ok 0 - $name ran to its end (exit $rc, plan ${plan:-none})" >> "$tap"
}

# Lint and the house stand for everything; the rest goes by the pattern.
all=$([ -n "$pattern" ] && echo '' || echo 1)
wants() {
	[ -n "$all" ] && return
	case $1 in *"$pattern"*) ;; *) false ;; esac
}

# Not for one boot alone, which is somebody's inner loop.
grep -qxF -- "${pattern#=}" <<< "$names" || step pure in_root "$TOP/tools/test/pure.sh"
! wants house || step house env OBJECTS=1 "$TOP/tools/test/house.sh"
! wants plugins || step plugins in_root "$TOP/tools/machine/plugins/test.sh"
case " $(paste -sd' ' <<< "$needs") " in
*' l2 '*)
	root=$("$TOP/tools/machine/foreign.sh" qemu)
	echo "$root" > "$BUILD/vmm-root"
	;;
esac
case " $(paste -sd' ' <<< "$needs") " in
*' perf '*)
	perf=$("$TOP/tools/machine/foreign.sh" perf)
	echo "$perf" > "$BUILD/perf-root"
	;;
esac
kernels=$(grep -vxE 'model|perf|l2|module|oracle' <<< "$needs" || true)
for kernel in $kernels; do
	"$TOP/tools/build/kernel.sh" "$kernel"
	"$TOP/tools/build/kernel.sh" "$kernel" --objects > "$BUILD/kernel-$kernel"
done
case " $(paste -sd' ' <<< "$needs") " in
*' module '*) "$TOP/tools/build/module.sh" "${CONFIG:-armature}" ;;
esac
if [ -n "$kernels" ]; then
	"$TOP/tools/build/selftests.sh"
	mkdir -p "$BUILD/perf"
	in_root "$TOP/tools/machine/perf/build" "$BUILD/perf" > "$LOGS/workload.log" 2>&1 || die "the workload does not build: build/log/workload.log"
	in_root "$TOP/tools/machine/plugins/build" "$BUILD/plugins" > "$LOGS/plugins.log" 2>&1 || die "the plugins do not build: build/log/plugins.log"
fi
# What reads the source gives way to what boots it: after two thirds of the time it is skipped, and
# says so.
reads() {
	[ -n "${DEADLINE:-}" ] && [ $(($(date +%s) - STARTED)) -gt $((DEADLINE * 2 / 3)) ] || { step "$@"; return; }
	say "$1" "skipped: two thirds of the time are over"
	printf '1..1\nok 1 - %s # SKIP no time left\n' "$1" > "$BUILD/report/steps/$1.tap"
}
if [ -n "${LINT:-}" ]; then
	reads lint "$TOP/tools/lint/lint.sh"
	reads docs "$TOP/tools/lint/docs.sh"
fi
if [ -n "$model" ]; then
	wait "$model" || die "the emulator of the machine model does not build"
	trap - EXIT
	mv "$BUILD/qemu-model.new" "$BUILD/qemu-model"
	step machine "$TOP/tools/machine/bare/test.sh"
	case " $(paste -sd' ' <<< "$needs") " in
	*' oracle '*) step oracle "$TOP/tools/oracle/native.sh" ;;
	esac
	case $pattern in
	'' | *debug_topology*) step migrate "$TOP/tools/vmm/migrate.sh" --tap ;;
	# Not part of everything: it takes four kernels more.
	breaks) step breaks "$TOP/tools/test/breaks.sh" ;;
	esac
	! counted || step counts "$TOP/tools/bench/counts.sh"
fi
say boot "booting the machines"
in_root "${runner[@]}" run "$pattern_of_boots"
