#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Tests that the host can profile with Debian's perf while a guest profiles; prints TAP.
# usage: spe-host.sh PROGRAM; PROGRAM runs guests, and prints TAP.
program=$1
. /tap.sh
PATH=$PATH:/usr/bin
export HOME=/tmp

# perf prints these for a packet that it does not decode, or only in part.
unknown='Bad packet|(ADDR|OP-TYPE) 0x|IMPDEF|LAT [0-9]+ *$'

rm -f guest.exit
perf record -q -a -o guest.data -c 65536 -e arm_spe_0/ts_enable=1/ \
	-- sh -c "$program; echo \$? > guest.exit" > guest.out 2>&1
[ "$(cat guest.exit)" = 0 ]
check $? "a guest under perf record: $program"
[ "$(cat guest.exit)" = 0 ] || grep -B 2 -A 4 -E 'not ok|Assert' guest.out | sed 's/^/# /' >> report
perf report -D -i guest.data 2> /dev/null | grep -E '^\.  [0-9a-f]{8}:' > guest.txt
[ -s guest.txt ] && [ "$(grep -cE "$unknown" guest.txt)" = 0 ]
check $? "and its host's records are whole"
# In nVHE mode the host runs at EL1, like the guest, and between two runs of a vCPU
# the host's virtual time is the guest's.
if dmesg | grep -q ': VHE mode initialized'; then
	# Times must not have a guest's offset: perf starts when the machine has been
	# up for seconds, and a guest's counter starts at 0.
	sed -n 's/.* TS \([0-9]*\).*/\1/p' guest.txt | awk '
		{ if (!n++ || $1 < least) least = $1; if ($1 > most) most = $1 }
		END {
			print "# " n " times in " (most - least) / 1e9 " s"
			exit !(n > 10 && least > 1e9 && most - least < 3e11)
		}' >> report
	check $? "with times of the host"
	[ "$(grep -c ' PC 0x.* el1 ' guest.txt)" = 0 ]
	check $? "and nothing that the guest's kernel executes"
fi

finish
