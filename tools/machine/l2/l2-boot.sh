#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# shellcheck disable=SC3045
# l2-boot.sh [gdb]: boots a Linux guest with Debian's QEMU as the VMM and KVM, up to a
# program that prints a line. With "gdb", sets hardware breakpoints through QEMU's gdbstub
# first: the guest stops at each, steps, and continues to its end. Prints TAP.
set -u
n=0
failed=0

result() {
	n=$((n + 1))
	[ "$1" = 0 ] && echo "ok $n - $2" || { echo "not ok $n - $2"; failed=1; }
}

start() {
	/usr/bin/qemu-system-aarch64 -accel kvm -cpu host -M virt,gic-version=3 -smp 2 -m 512M \
		-nodefaults -display none -monitor none -no-reboot \
		-serial file:/tmp/l2.console -serial file:/tmp/l2.tap \
		-kernel /l2/Image -initrd /l2/initrd -append "console=ttyAMA0 nokaslr panic=-1" "$@" \
		> /tmp/l2.qemu 2>&1 < /dev/null &
	qemu=$!
}

ended() {
	wait "$qemu"
	result $? "QEMU ends well"
	sed 's/^/# /' /tmp/l2.qemu
	grep -q '^ok 1 speaks' /tmp/l2.tap
	result $? "the guest has come to its program"
	! grep -E 'WARNING|BUG|Oops|Call trace' /tmp/l2.console
	result $? "the guest's kernel has nothing to complain about"
}

# gdb's remote protocol: $packet#checksum is answered by + and a packet.
checksum() {
	local rest=$1 sum=0 char

	while [ -n "$rest" ]; do
		char=${rest%"${rest#?}"}
		rest=${rest#?}
		sum=$(((sum + $(printf %d "'$char")) % 256))
	done
	printf %02x "$sum"
}

request() {
	printf '$%s#%s' "$1" "$(checksum "$1")" >&4
	IFS= read -r -t 120 -d '#' reply <&5 || return 1
	read -r -n 2 _ <&5
	reply=${reply##*\$}
	printf + >&4
}

# Prints the guest's PC: register 32, the low byte first.
pc() {
	request p20
	echo "$reply" | sed 's/\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)\(..\)/\8\7\6\5\4\3\2\1/'
}

address() {
	sed -n "s/^\([0-9a-f]*\) . $1\$/\1/p" /proc/kallsyms
}

echo "TAP version 13"
if [ "${1:-}" != gdb ]; then
	echo 1..3
	start
	ended
	exit $failed
fi

echo 1..12
ifconfig lo up
start -S -gdb tcp:127.0.0.1:1234
mkfifo /tmp/to /tmp/from
until netstat -ltn 2> /dev/null | grep -q :1234; do
	kill -0 "$qemu" 2> /dev/null || { cat /tmp/l2.qemu; exit 1; }
	sleep 1
done
nc 127.0.0.1 1234 < /tmp/to > /tmp/from &
exec 4> /tmp/to 5< /tmp/from
request '?'
# In the order in which the guest reaches them.
for symbol in start_kernel rest_init kernel_init_freeable; do
	request "Z1,$(address $symbol),4"
	[ "$reply" = OK ]
	result $? "a hardware breakpoint at $symbol: $reply"
done
for symbol in start_kernel rest_init kernel_init_freeable; do
	request c
	at=$(pc)
	[ "$at" = "$(address $symbol)" ]
	result $? "the guest stops at $symbol: $at"
	request "z1,$(address $symbol),4"
	request s
	at=$(pc)
	[ "$at" != "$(address $symbol)" ]
	result $? "and steps on: $at"
done
printf '$c#63' >&4
ended
exit $failed
