#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# vmm-boot.sh VMM UNIT WRONG CPUS [SAVES]: boots the Linux guest in /l2 with our VMM, on CPUS vCPUs
# with the profiling unit UNIT. The threads start on CPU WRONG, which has none: they are moved, and
# the guest passes its tests. SAVES times, while it profiles, the guest is saved, and another
# process continues with it. The guest has MEMORY MiB. Prints TAP, with its results in it.
set -u
vmm=$1
unit=$2
wrong=$3
cpus=$4
saves=${5:-0}
n=0
rc=0
cd /tmp || exit 1
: > l2.raw
: > l2.vmm

result() {
	n=$((n + 1))
	[ "$1" = 0 ] && echo "ok $n - $2" || { echo "not ok $n - $2"; rc=1; }
}

start() {
	"$vmm" "$@" --spe "$unit" --place "$wrong" --save l2.state >> l2.raw 2>> l2.vmm < /dev/null &
	vm=$!
}

start --kernel /l2/Image --initrd /l2/initrd --memory "${MEMORY:-384}" --cpus "$cpus" \
	--cmdline "console=ttyS0 loglevel=5 nokaslr panic=-1"
saved=0
ended=3
while [ $saved -lt "$saves" ] && kill -0 $vm 2> /dev/null; do
	# The buffer of a vCPU is enabled.
	grep -q ', ready$' /sys/kernel/debug/kvm/*/spe 2> /dev/null || continue
	kill -USR1 $vm
	wait $vm
	ended=$?
	[ $ended = 3 ] || break
	saved=$((saved + 1))
	start --restore l2.state
	sleep 3
done
[ "$ended" != 3 ] || { wait $vm; ended=$?; }
tr -d '\r' < l2.raw > l2.console

echo "TAP version 13"
echo "1..$((4 + (saves > 0)))"
sed -n '/^KTAP version/,/^# end/p' l2.console | grep -v '^\[' | sed 's/^/    /'
grep -q '^# end' l2.console && ! grep -q '^not ok' l2.console
result $? "the guest passes its tests"
sed 's/^/# /' l2.vmm
grep -q '^# end' l2.console || tail -n 20 l2.console | sed 's/^/# /'
[ $ended = 0 ]
result $? "and switches itself off"
[ "$(grep -c "^vmm: vCPU 0: CPU $wrong does not have $unit: moved to " l2.vmm)" -gt "$saves" ]
result $? "its first thread has been moved from CPU $wrong"
! grep -qE 'WARNING|BUG|Oops|Call trace' l2.console
result $? "its kernel has nothing to complain about"
[ "$saves" = 0 ] || {
	[ "$saved" = "$saves" ]
	result $? "it has been saved and continued $saves times"
}
exit $rc
