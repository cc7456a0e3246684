#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# vmm.sh VMM BASELINE: boots the Linux guest in /l2 with our VMM and a CPU that is not the host's,
# saves it while it runs, and continues with it. Then tries hosts and files with which that does not
# work. Prints TAP, with the guest's results in it.
vmm=$1
tool=$2
. /tap.sh
MIDR=0x603000000013c000

start() {
	"$vmm" "$@" >> l2.raw 2>> err < /dev/null &
	vm=$!
}

# says WHAT TEXT ARG...: checks that the VMM fails, with one line that has TEXT.
says() {
	what=$1
	text=$2
	shift 2
	"$vmm" "$@" > out 2> err < /dev/null
	[ $? = 1 ] && [ "$(wc -l < err)" = 1 ] && grep -qF -- "$text" err
	check $? "$what"
}

# changed OFFSET: prints the saved VM with the number 1 at an offset.
changed() {
	head -c "$1" state
	printf '\1\0\0\0\0\0\0\0'
	tail -c +$(($1 + 9)) state
}

"$tool" probe --name here -o here.json 2> err &&
	"$tool" merge here.json --format vmm > plain 2> err
check $? "a CPU for the VMM: $(wc -l < plain) lines"
grep -v "^$MIDR \|^sve \|^pmcr\|^end" plain > cpu
printf '%s 0xf0512 0xffffffffffffffff\nsve 256\npmcr_el0.n 2\nend\n' $MIDR >> cpu

: > err
: > l2.raw
start --kernel /l2/Image --initrd /l2/initrd --baseline cpu --save state \
	--cmdline "console=ttyS0 loglevel=5 nokaslr panic=-1"
until grep -q '^looked' l2.raw || ! kill -0 $vm 2> /dev/null; do
	usleep 100000
done
kill -USR1 $vm
wait $vm
[ $? = 3 ]
check $? "the guest is saved while it runs"
start --restore state
wait $vm
check $? "it continues, and switches itself off"
tr -d '\r' < l2.raw > l2.console
grep -q '^# end' l2.console && ! grep -q '^not ok' l2.console || tail -n 20 l2.console >> err
[ ! -s err ]
check $? "with the same CPU: $(grep -c '^ *ok' l2.console) facts"
! grep -E 'WARNING|BUG|Oops|Call trace' l2.console > err
check $? "its kernel has nothing to complain about"

for offset in 8 16; do
	changed $offset > other
	[ $offset = 8 ] && name=CNTFRQ_EL0 || name=DCZID_EL0
	says "a host with another $name is refused" "$name: it is" --restore other
done
head -c 4096 state > other
says "half a saved VM" 'other: ' --restore other
says "a file that is not there" 'none: No such file' \
	--kernel /l2/Image --baseline none
echo "kvm.baseline=x" > other
says "a file of another kind" 'other: not of this kind' --kernel /l2/Image --baseline other
head -n 20 cpu > other
says "half a file" 'other: it has no end' --kernel /l2/Image --baseline other
bad="0x603000000013c030 0xf000000000000000 0xf000000000000000"
while IFS='|' read -r what line text; do
	printf 'baseline 1\n%s\nend\n' "$line" > other
	says "$what" "$text" --kernel /l2/Image --baseline other
done << EOF
a line of another kind|x|other: what is "x"?
a CPU with another clock|cntfrq_el0 1|CNTFRQ_EL0: it is
a field above the host's|$bad|KVM_SET_ONE_REG 0x603000000013c030
vectors that no CPU has|sve 64|SVE vectors of 64 bits
vectors that this CPU does not have|sve 4096|SVE vectors of 4096 bits
more counters than the host's|pmcr_el0.n 31|PMCR_EL0.N: it is
EOF
finish
