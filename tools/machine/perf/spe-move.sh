#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Profiles in a guest while its host moves it to another one; prints TAP.
# usage: spe-move.sh WORKLOAD. The console says when the move should begin, and what has ended.
workload=$(command -v "$1")
. /tap.sh
PATH=$PATH:/usr/bin
export HOME=/tmp
# The workload runs so often on one host, and for so many seconds while it moves.
ONCE=20
MOVE=110

# record NAME COMMAND: records what a shell does, and decodes the records to NAME.txt. The buffer is
# large: none is lost because perf is late.
record() {
	perf record -q -m ,1M -c 131072 -o "$1.data" -e arm_spe_0/jitter=1,ts_enable=1/u -- \
		sh -c "$2" > "$1.out" 2>&1
	perf report -D -i "$1.data" > "$1.txt" 2> /dev/null
	[ -s "$1.txt" ] || tail -n 3 "$1.out" > err
}

# samples NAME: prints the number of samples.
samples() {
	grep -c ' TS [0-9]' "$1.txt"
}

record once "for _ in \$(seq $ONCE); do $workload profile; done"
once=$(samples once)
[ "$once" -gt 500 ]
check $? "perf records on one host"
[ "$once" -gt 0 ] || finish

echo "guest: profiles" > /dev/console
record moved "end=\$((\$(date +%s) + $MOVE))
	while [ \$(date +%s) -lt \$end ]; do $workload profile; echo turn; done"
echo "guest: has profiled" > /dev/console
turns=$(grep -c '^turn$' moved.out)
moved=$(samples moved)
echo "# $once samples of $ONCE runs on one host, $moved of $turns while it moves" >> report
part=$((turns ? moved * ONCE * 100 / (once * turns) : 0))
[ $part -ge 97 ] && [ $part -le 103 ]
check $? "perf records as many samples while the guest moves"

# What the unit wrote to a page that did not move would be missing: the page has older records, or
# none. Of the two CPUs, both may sample at the same time.
awk '
	/ TS [0-9]/ && seen[$NF]++ { twice++ }
	/ PAD$/ { empty += ++run == 256; next }
	{ run = 0 }
	END {
		print "# " twice + 0 " records are there twice, " empty + 0 " pages have none"
		exit twice > 16 || empty
	}
' moved.txt >> report
check $? "no page of records is there twice, or missing"
grep 'PERF_RECORD_AUX ' moved.txt > aux
[ -s aux ] && ! grep -q 'flags: 0x[0-9a-f]*[1-9a-f]' aux
check $? "and perf says that it has lost none"
finish
