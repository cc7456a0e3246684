#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# guest.sh: tests in the guest of vmm.sh that it has the CPU that it is given, before and after it
# has been saved. Prints TAP.
. /tap.sh

look() {
	midr=$(cat /sys/devices/system/cpu/cpu0/regs/identification/midr_el1)
	[ $((midr)) = $((0xf0512)) ]
	check $? "$1: MIDR_EL1 is $midr"
	vl=$(cat /proc/sys/abi/sve_default_vector_length)
	[ "$vl" = 32 ]
	check $? "$1: SVE vectors of $vl bytes"
	counters=$(dmesg | sed -n 's/.* \([0-9]*\) (.*) counters available.*/\1/p')
	[ "$counters" = 3 ]
	check $? "$1: $counters counters, with that of cycles"
}

look before
# It is saved now.
echo "looked" > /dev/console
sleep 5
look after
finish
