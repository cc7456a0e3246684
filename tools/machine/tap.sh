#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Functions of tests in machines that print TAP; each machine has this file as /tap.sh. The current
# directory becomes /tmp. The plan with the number of lines comes first, so the lines are kept in
# the file `report` until finish prints them.
cd /tmp || exit 1
: > report
n=0
rc=0

# check STATUS WHAT: notes that a test has passed, if STATUS is 0, or has failed, with what is in
# the file `err`, if there is one.
check() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then
		echo "ok $n - $2"
	else
		echo "not ok $n - $2"
		[ ! -e err ] || sed 's/^/# /' err
		rc=1
	fi
} >> report

# hot_records FILE LEAST: notes how many of perf's records are those of the workload's hot
# functions. Fails if they are not more than LEAST.
hot_records() {
	perf script -i "$1" --itrace=i1i -F ip,sym 2> /dev/null | awk -v least="$2" '
		$NF ~ /^hot_/ { hot++ }
		END { print "# " hot + 0 " of " NR " records are hot"; exit !(hot > least) }' >> report
}

# finish: prints the report, and exits with 1 if a test has failed.
finish() {
	echo "TAP version 13"
	echo "1..$n"
	cat report
	exit "$rc"
}
