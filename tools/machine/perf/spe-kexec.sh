#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# spe-kexec.sh before|after WORKLOAD: boots another kernel while all CPUs are profiled, and profiles
# there. Prints TAP, unless all is well "before".
workload=$(command -v "$2")
. /tap.sh
PATH=$PATH:/usr/bin
export HOME=/tmp
cpus=$(nproc)

# are_profiled: says whether the unit of each CPU has filled its buffer.
are_profiled() {
	awk -v cpus="$cpus" '
		/arm_spe/ { for (i = 2; i < 2 + cpus; i++) profiled += $i > 0 }
		END { exit profiled != cpus }' /proc/interrupts
}

before() {
	(cd / && find . -xdev ! -name Image | cpio -o -H newc > /tmp/initrd 2> /dev/null)
	for cpu in $(seq 0 $((cpus - 1))); do
		while :; do taskset -c "$cpu" "$workload" profile; done > /dev/null &
	done
	perf record -q -a -m ,64K -c 2048 -o all.data -e arm_spe_0// > all.out 2>&1 &
	perf=$!
	tries=120
	until are_profiled; do
		tries=$((tries - 1))
		[ $tries -gt 0 ] && kill -0 $perf 2> /dev/null || break
		sleep 1
	done
	are_profiled && kill -0 $perf
	profiled=$?
	check $profiled "all CPUs are profiled"
	[ $profiled = 0 ] || return
	"$workload" kexec /Image /tmp/initrd "$(cat /proc/cmdline) CONTINUE=1" > err 2>&1
	check 1 "another kernel boots"
}

after() {
	perf record -q -m ,64K -c 2048 -o again.data -e arm_spe_0/jitter=1/u -- "$workload" profile \
		> again.out 2>&1
	hot_records again.data 500
	check $? "the next kernel profiles"
	! dmesg | grep -qE 'buffer fault|error code|buffer status|nobody cared'
	check $? "its driver has found nothing strange"
}

case $1 in
before) before ;;
after) after ;;
esac
finish
