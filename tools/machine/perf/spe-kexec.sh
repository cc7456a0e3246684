#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# spe-kexec.sh before|after WORKLOAD: boots another kernel while all CPUs are profiled, and profiles
# there. Prints TAP, unless all is well "before".
workload=$(command -v "$2")
. /tap.sh
PATH=$PATH:/usr/bin
export HOME=/tmp

case $1 in
before)
	(cd / && find . -xdev ! -name Image | cpio -o -H newc > /tmp/initrd 2> /dev/null)
	perf record -q -a -m ,64K -c 2048 -o all.data -e arm_spe_0// > all.out 2>&1 &
	"$workload" profile > /dev/null
	kill -0 $!
	check $? "perf profiles"
	"$workload" kexec /Image /tmp/initrd "$(cat /proc/cmdline) CONTINUE=1" > err 2>&1
	check 1 "another kernel boots"
	;;
after)
	perf record -q -m ,64K -c 2048 -o again.data -e arm_spe_0/jitter=1/u -- "$workload" profile \
		> again.out 2>&1
	perf script -i again.data --itrace=i1i -F ip,sym 2> /dev/null | awk '
		$NF ~ /^hot_/ { hot++ }
		END { print "# " hot + 0 " of " NR " records are hot"; exit !(hot > 500) }' >> report
	check $? "the next kernel profiles"
	! dmesg | grep -qE 'buffer fault|error code|buffer status|IRQ .*nobody cared'
	check $? "its driver has found nothing strange"
	;;
esac
finish
