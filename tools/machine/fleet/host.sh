#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# shellcheck disable=SC3045
# Functions of the hosts of `make fleet` (tools/armature/journey.py), each of which has this file as
# /fleet/host.sh. The VMM is Debian's QEMU with -cpu host; /fleet/Image and /fleet/initrd are the
# guest's.
PARAMETER=/sys/module/kvm/parameters/baseline
# The port of the journey. The refusals use the ports after it.
PORT=4444
CR=$(printf '\r')
. /network.sh
cd /tmp || exit 1

fail() {
	tell "FAILED $*"
	tail -n 5 qemu.log console 2> /dev/null
	exit 1
}

# baseline FILE: gives the baseline in FILE to the VMs of this host.
baseline() {
	cat "$1" > $PARAMETER || fail "$1 is refused"
}

# start ARG...: starts QEMU. Its serial port and its monitor are pipes, which this shell holds open;
# the last line in them says that it has ended.
start() {
	rm -f serial.* qmp.*
	mkfifo serial.in serial.out qmp.in qmp.out
	exec 4<> qmp.in 5<> qmp.out 6<> serial.in 7<> serial.out
	{
		/usr/bin/qemu-system-aarch64 -accel kvm -cpu host -M virt,gic-version=3 -m 128M \
			-nodefaults -display none -serial pipe:/tmp/serial -qmp pipe:/tmp/qmp \
			-kernel /fleet/Image -initrd /fleet/initrd \
			-append "console=ttyAMA0 loglevel=5 panic=-1" "$@" > qemu.log 2>&1 \
			4>&- 5>&- 6>&- 7>&-
		ended=$?
		echo ended > qmp.out
		echo ended > serial.out
		exit $ended
	} &
	qemu=$!
	ask qmp_capabilities
	ask migrate-set-capabilities \
		'{"capabilities": [{"capability": "return-path", "state": true}]}'
	# The links are emulated, and so are the CPUs.
	ask migrate-set-parameters '{"downtime-limit": 60000, "max-bandwidth": 1000000000}'
}

# ask COMMAND [ARGUMENTS]: asks QEMU; the answer is in $reply.
ask() {
	arguments=${2:-}
	[ -n "$arguments" ] || arguments='{}'
	echo "{\"execute\": \"$1\", \"arguments\": $arguments}" >&4
	while IFS= read -r reply <&5; do
		case $reply in
		*'"return": '*) return 0 ;;
		*'"error": '*) fail "QEMU: $1: $reply" ;;
		ended) fail "QEMU has ended: $1" ;;
		esac
	done
}

# hear WORD: waits for a line of the guest with this word; the rest of it is in $reply.
hear() {
	while IFS= read -r line <&7; do
		line=${line%"$CR"}
		echo "$line" >> console
		case $line in
		"guest: $1"*)
			reply=${line#"guest: $1"}
			reply=${reply# }
			return 0
			;;
		ended) fail "QEMU has ended: the guest does not say: $1" ;;
		esac
	done
}

# guest WORD: asks the guest; the answer is in $reply.
guest() {
	echo "$1" >&6
	hear "$1"
}

# checks WHEN: prints what the guest finds.
checks() {
	for what in cpu debug memory; do
		guest $what
		echo "$1: $what $reply"
	done
}

# read_clocks: asks the guest for its time. $clocks has the host's time before that and after it, in
# hundredths of a second, and the guest's. The narrowest of five answers counts: a busy machine can
# be late at any of them. No program is started, since that takes long there.
read_clocks() {
	narrowest=
	for _ in 1 2 3 4 5; do
		read -r uptime _ < /proc/uptime
		asked=${uptime%.*}${uptime#*.}
		guest clock
		read -r uptime _ < /proc/uptime
		heard=${uptime%.*}${uptime#*.}
		if [ -z "$narrowest" ] || [ $((heard - asked)) -lt "$narrowest" ]; then
			narrowest=$((heard - asked))
			clocks="$asked $heard $reply"
		fi
	done
}

# clock WHEN: prints by how much the guest's clock is faster than the host's, in per cent. It looks
# until the times between which the guest's was read are less than 1% of the time that has passed.
clock() {
	read_clocks
	first=$clocks
	faster="not known: the guest answers late"
	for _ in $(seq 12); do
		sleep 10
		read_clocks
		found=$(echo "$first $clocks" | awk '{
			least = $4 - $2; most = $5 - $1
			if ((most - least) / least < 0.01)
				printf "%.3f", (($6 - $3) * 100 / ((least + most) / 2) - 1) * 100
		}')
		if [ -n "$found" ]; then
			faster=$found
			break
		fi
	done
	echo "$1: clock $faster"
}

# reboot WHEN: reboots the guest, and prints what it finds then.
reboot() {
	echo reboot >&6
	hear booted
	checks "$1, rebooted"
	clock "$1, rebooted"
}

# stop: ends QEMU, and keeps what the guest has said meanwhile.
stop() {
	ask quit
	wait "$qemu"
	qemu=
	while IFS= read -r line <&7 && [ "$line" != ended ]; do
		echo "${line%"$CR"}" >> console
	done
}

# console: prints what the guest has said on this host.
console() {
	[ ! -e console ] || sed 's/^/console: /' console
}

# migrate N PORT: moves the VM to the Nth host, once that is listening. Fails if it is refused
# there.
migrate() {
	for _ in $(seq 1000); do
		ask migrate "{\"uri\": \"tcp:10.0.0.$1:$2\"}"
		while :; do
			ask query-migrate
			case $reply in
			*'"status": "completed"'*) return 0 ;;
			*'Failed to connect'* | *'Connection refused'*) break ;;
			*'"status": "failed"'*) return 1 ;;
			esac
			sleep 1
		done
		sleep 1
	done
	fail "host $1 does not listen"
}

# figure NAME: prints that figure of the last answer.
figure() {
	echo "$reply" | sed "s/.*\"$1\": \([0-9]*\).*/\1/"
}

# send N NAME: moves the guest to the Nth host, whose name that is.
send() {
	migrate "$1" $PORT || fail "$2 refuses the VM: $reply"
	tell "moved to $2 in $(figure total-time) ms, of which it was stopped for $(figure downtime)"
	stop
}

# listen PORT ARG...: starts QEMU for a VM of another host.
listen() {
	port=$1
	shift
	start -incoming defer "$@"
	ask migrate-incoming "{\"uri\": \"tcp:0:$port\"}"
}

# receive NAME: takes the guest, and looks at it before and after it reboots.
receive() {
	listen $PORT
	until ask query-status && [ "$reply" != "${reply#*'"status": "running"'}" ]; do
		sleep 1
	done
	tell "the guest runs here"
	checks "$1"
	clock "$1"
	reboot "$1"
	tell "it has rebooted"
}

# applied WHY: prints what the tool says of this host's VMs.
applied() {
	/fleet/baseline check --applied /fleet/text > tool.log 2>&1
	tell "$1: $(cat tool.log)"
}

# offer N PORT WHY: tries to move a VM to the Nth host, which refuses it.
offer() {
	start -S
	! migrate "$1" "$2" || fail "$3: the VM is not refused"
	stop
	applied "$3"
}

# refuse PORT WHY: refuses a VM, and prints what QEMU says.
refuse() {
	listen "$1" -S
	wait "$qemu" && fail "$2: QEMU ends well"
	qemu=
	tell "$2: QEMU: $(sed 's/^qemu-system-aarch64: //' qemu.log | tr '\n' ';')"
	applied "$2"
}
