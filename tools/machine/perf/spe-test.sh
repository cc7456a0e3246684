#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Tests statistical profiling with Debian's perf, on a machine with FEAT_SPE; prints TAP.
# usage: spe-test.sh WORKLOAD SYMBOLS; SYMBOLS has "NAME FIRST END" of the hot functions, in
# decimal. With GUEST set, the machine is a guest: it must not get physical addresses.
workload=$(command -v "$1")
symbols=$2
. /tap.sh
PATH=$PATH:/usr/bin
export HOME=/tmp

# perf prints these for a packet that it does not decode, or only in part.
unknown='Bad packet|(ADDR|OP-TYPE) 0x|IMPDEF|LAT [0-9]+ *$'

# record NAME OPTIONS: records the workload, and decodes the records to NAME.txt. The interval
# varies, since a fixed one might match a loop; the buffer is small, so that it fills.
record() {
	perf record -q -m ,64K -o "$1.data" -c 2048 -e "arm_spe_0/jitter=1,$2/u" \
		-- "$workload" profile > "$1.out" 2>&1 &&
		perf report -D -i "$1.data" 2> /dev/null | grep -E '^\.  [0-9a-f]{8}:' > "$1.txt"
	[ -s "$1.txt" ]
	check $? "perf records with $2"
	[ -s "$1.txt" ] || tail -n 3 "$1.out" | sed 's/^/# /' >> report
	[ -s "$1.txt" ] && [ "$(grep -cE "$unknown" "$1.txt")" = 0 ]
	check $? "and knows every packet"
}

test -d /sys/bus/event_source/devices/arm_spe_0
check $? "arm_spe_pmu has found FEAT_SPE"

record all ts_enable=1,pa_enable=1
perf report --stdio -q --itrace=i1i -F overhead,symbol -i all.data > all.report 2> /dev/null
head -n 8 all.report | sed 's/^/# /' >> report
for name in hot_loads hot_branches; do
	grep -q "$name" all.report
	check $? "perf report finds $name"
done

# hot FILE: prints the records, which begin with their addresses, of the hot functions.
hot() {
	awk -v symbols="$symbols" '
		function number(hex,  i, v) {
			v = 0
			for (i = 1; i <= length(hex); i++)
				v = v * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
			return v
		}
		BEGIN {
			while ((getline line < symbols) > 0) {
				split(line, f, " ")
				first[f[1]] = f[2]
				end[f[1]] = f[3]
			}
		}
		match($0, / PC 0x[0-9a-f]* el0/) {
			v = number(substr($0, RSTART + 6, RLENGTH - 10))
			inside = 0
			for (s in first) if (v >= first[s] && v < end[s]) inside = 1
		}
		inside' "$1"
}

# The hot functions execute nearly all instructions.
all=$(grep -c ' PC 0x[0-9a-f]* el0' all.txt)
inside=$(hot all.txt | grep -c ' PC 0x')
echo "# $inside of $all records are in the hot functions" >> report
[ "$all" -gt 500 ] && [ $((inside * 100)) -ge $((all * 95)) ]
check $? "95 of 100 addresses are those of the hot functions"
perf script -i all.data -F ip,sym 2> /dev/null > all.script
grep -q hot_loads all.script && grep -q hot_branches all.script
check $? "perf script finds them too"
grep -q 'TS [0-9]' all.txt
check $? "timestamps that were asked for"
if [ -n "${GUEST:-}" ]; then
	! grep -q 'PA 0x' all.txt
	check $? "no physical addresses, though they were asked for"
else
	grep -q 'PA 0x' all.txt
	check $? "physical addresses that were asked for"
fi

# Three tasks take turns: perf switches the unit with them.
perf record -q -m ,64K -c 2048 -o tasks.data -e arm_spe_0/jitter=1/u -- \
	sh -c "$workload profile & $workload profile & $workload profile & wait" > tasks.out 2>&1
perf script -i tasks.data --itrace=i1i -F pid,ip,sym 2> /dev/null | awk '
	$NF ~ /^hot_/ { n[$1]++; all++ }
	END {
		for (task in n) { tasks++; few += n[task] < all / 20 }
		print "# " all + 0 " records of " tasks + 0 " tasks"
		exit !(tasks == 3 && !few)
	}' >> report
check $? "three tasks at the same time, each with its records"

# Not only slow loads, as by default.
perf mem record --ldlat 1 --all-user -c 2048 -o mem.data -- "$workload" profile > mem.out 2>&1 &&
	perf mem report -i mem.data --stdio > mem.report 2> /dev/null
grep -q 'hot_loads' mem.report
check $? "perf mem finds what loads"
# perf c2c wants NUMA nodes, which the base kernel of the other machines does not have.
[ -z "${GUEST:-}" ] || {
	perf c2c record --ldlat 1 --all-user -c 2048 -o c2c.data -- "$workload" profile \
		> c2c.out 2>&1 &&
		perf c2c report -i c2c.data --stdio > c2c.report 2> c2c.err
	awk '/Load Operations/ { n = $NF } END { print "# perf c2c: " n + 0 " loads"; exit !n }' \
		c2c.report >> report
	check $? "perf c2c counts loads"

	# What a buffer has at the end: the small one has been written several times by then.
	for size in 64K 64M; do
		perf record -q -m ,$size -Se -C 0 -c 2048 -o $size.data -e arm_spe_0/jitter=1/u -- \
			taskset -c 0 "$workload" profile > $size.out 2>&1
		hot_records $size.data 300
		check $? "a snapshot of a buffer of $size"
	done
}

awk '
	/arm_spe/ { for (i = 2; i <= NF; i++) if ($i ~ /^[0-9]+$/) n += $i }
	END { print "# " n + 0 " interrupts"; exit !n }' /proc/interrupts >> report
check $? "the interrupt of the full buffer is taken"

# only OTHERS LEAST FILE WHAT: checks that the hot functions have no operation of OTHERS in a
# recording, and more than LEAST in all. Elsewhere an operation may be a load and a store: atomics,
# and copies of memory.
only() {
	hot "$3" > hot.txt
	others=$(grep -cE " ($1)( |$)" hot.txt)
	all=$(grep -cE ' (LD|ST|B)( |$)' hot.txt)
	echo "# $all operations, of which $others are others" >> report
	[ "$others" = 0 ] && [ "$all" -gt "$2" ]
	check $? "$4"
}

record loads load_filter=1
only 'ST|B' 50 loads.txt "load_filter: loads and nothing else"
record stores store_filter=1
only 'LD|B' 10 stores.txt "store_filter: stores and nothing else"
record branches branch_filter=1
only 'LD|ST' 50 branches.txt "branch_filter: branches and nothing else"
record slow min_latency=10
sed -n 's/.* LAT \([0-9]*\) TOT.*/\1/p' slow.txt | sort -n > latencies
[ -s latencies ] && [ "$(head -n 1 latencies)" -ge 10 ]
check $? "min_latency: nothing faster"
record missed event_filter=0x80
[ "$(grep -c ' EV ' missed.txt)" -gt 20 ] && [ "$(grep ' EV ' missed.txt | grep -vc MISPRED)" = 0 ]
check $? "event_filter: mispredicted branches and nothing else"

finish
