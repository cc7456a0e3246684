#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# vmm-move.sh first|second VMM UNIT: one of two hosts between which our VMM moves a Linux guest
# while it profiles with the profiling unit UNIT. The first one boots the guest in /l2, and sends
# its memory and then the rest. The second one has a VMM without a unit, which refuses the guest, so
# that it runs on; the next VMM takes it, and sends it back, but its memory later. The threads of
# vCPUs start on CPU 0. Prints what the VMMs and the guest say, for tools/armature/profile_move.py.
part=$1
vmm=$2
unit=$3
PORT=4444
. /network.sh
cd /tmp || exit 1

# until_it COMMAND: waits until the command succeeds. Fails if the VMM has ended.
until_it() {
	until "$@"; do
		kill -0 "$vm" 2> /dev/null || return 1
		usleep 100000
	done
}

# profiles: says whether the buffer of a vCPU is enabled.
profiles() {
	grep -q ', ready$' /sys/kernel/debug/kvm/*/spe 2> /dev/null
}

# leave: moves the guest away while it profiles. The other host may not listen yet: then it is tried
# again.
leave() {
	tries=0
	while [ "$tries" -lt 20 ] && until_it profiles; do
		kill -USR1 "$vm"
		tries=$((tries + 1))
		until [ "$(grep -c 'runs on here' l2.vmm)" = "$tries" ]; do
			kill -0 "$vm" 2> /dev/null || break 2
			usleep 100000
		done
		tell "it runs on here"
		sleep 1
	done
	wait "$vm"
	[ $? = 3 ] && tell "it has left"
}

# receive OPTION...: waits for the guest, and runs it.
receive() {
	"$vmm" --receive $PORT --spe "$unit" --place 0 "$@" >> l2.raw 2>> l2.vmm < /dev/null &
	vm=$!
}

first() {
	network 1 || return 1
	"$vmm" --kernel /l2/Image --initrd /l2/initrd --memory 384 --cpus 2 \
		--cmdline "console=ttyS0 loglevel=5 nokaslr panic=-1" --spe "$unit" --place 0 \
		--send "10.0.0.2:$PORT" > l2.raw 2> l2.vmm < /dev/null &
	vm=$!
	until_it grep -q '^guest: profiles' l2.raw && tell "the guest profiles here"
	leave || return 1
	receive
	wait "$vm" && tell "the guest is done"
}

second() {
	network 2 || return 1
	"$vmm" --receive $PORT > l2.raw 2> l2.vmm < /dev/null && return 1
	tell "$(cat l2.vmm)"
	receive --postcopy "10.0.0.1:$PORT"
	until_it profiles && tell "the guest profiles here, too"
	sleep 5
	leave
}

case $part in
first) first ;;
second) second ;;
esac
rc=$?
sed 's/^/# /' l2.vmm
tr -d '\r' < l2.raw | sed 's/^/console: /'
exit $rc
