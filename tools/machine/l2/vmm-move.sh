#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# vmm-move.sh send|receive VMM UNIT: one of two hosts between which our VMM moves a Linux guest
# while it profiles with the profiling unit UNIT. "send" boots the guest in /l2 and sends it. The
# first VMM of "receive" has no unit and refuses the guest, so that it runs on; the second one takes
# it. The threads of vCPUs start on CPU 0. Prints what the VMMs and the guest say, for
# tools/armature/profile_move.py.
part=$1
vmm=$2
unit=$3
PORT=4444
. /network.sh
cd /tmp || exit 1

# until_grep OPTION... FILE: waits until grep finds something. Fails if the VMM has ended.
until_grep() {
	until grep -q "$@" 2> /dev/null; do
		kill -0 "$vm" 2> /dev/null || return 1
		usleep 100000
	done
}

# The other host may not listen yet: it is tried again.
send() {
	network 1 || return 1
	"$vmm" --kernel /l2/Image --initrd /l2/initrd --memory 384 --cpus 2 \
		--cmdline "console=ttyS0 loglevel=5 nokaslr panic=-1" --spe "$unit" --place 0 \
		--send "10.0.0.2:$PORT" > l2.raw 2> l2.vmm < /dev/null &
	vm=$!
	until_grep '^guest: profiles' l2.raw && tell "the guest profiles here"
	tries=0
	while [ "$tries" -lt 20 ] && until_grep ', ready$' /sys/kernel/debug/kvm/*/spe; do
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

receive() {
	network 2 || return 1
	"$vmm" --receive $PORT > l2.raw 2> l2.vmm < /dev/null && return 1
	tell "$(cat l2.vmm)"
	"$vmm" --receive $PORT --spe "$unit" --place 0 >> l2.raw 2>> l2.vmm < /dev/null &&
		tell "the guest is done"
}

case $part in
send) send ;;
receive) receive ;;
esac
rc=$?
sed 's/^/# /' l2.vmm
tr -d '\r' < l2.raw | sed 's/^/console: /'
exit $rc
