#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=busybox
# Functions of machines that are on a network (tools/armature/network.py); each machine has this
# file as /network.sh.

# tell WORD...: prints the words, also to the console, so that they are shown at once.
tell() {
	echo "$*"
	echo "host: $*" > /dev/console
}

# network N: joins the network as its Nth machine. Fails if there is none.
network() {
	ifconfig lo up
	ifconfig eth0 "10.0.0.$1" netmask 255.255.255.0 up
}
