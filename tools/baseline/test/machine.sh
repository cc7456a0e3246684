#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# machine.sh BASELINE BRUTE: tests the tool on this machine, with its KVM. Prints TAP.
tool=$1
brute=$2
. /tap.sh

# says WHAT TEXT COMMAND...: checks that a command fails, with one line that has TEXT.
says() {
	what=$1
	text=$2
	shift 2
	"$@" > out 2> err
	[ $? = 1 ] && [ ! -s out ] && [ "$(wc -l < err)" = 1 ] && grep -qF -- "$text" err
	check $? "$what"
}

"$tool" probe --name here -o here.json 2> err
check $? "probe"
"$tool" show here.json > fields 2> err
check $? "show: $(wc -l < fields) fields"
"$brute" < fields > brute.tap 2> err
grep -v '^ok' brute.tap | tail -n 20 >> err
[ "$(grep -c '^ok' brute.tap)" -gt 200 ] && ! grep -q '^not ok\|^Bail' brute.tap
check $? "brute force finds the same: $(grep -c '^ok' brute.tap) fields"

"$tool" probe --name again -o again.json 2> err &&
	"$tool" diff here.json again.json > err
check $? "a second probe finds the same"
"$tool" merge here.json again.json --format kernel -o text 2> err &&
	"$tool" merge here.json again.json --fewest --format kernel > fewest &&
	grep -q cntfrq_el0 fewest && ! grep -q _el1 fewest
check $? "a host has its own defaults in common with itself"
for file in text here.json; do
	"$tool" check $file > out 2> err && grep -q '^This host accepts it\.$' out
	check $? "check of $file"
done

echo 'id_aa64isar0_el1=0xf000000000000000/0xf000000000000000' > above
says "check names a field above the limit" 'ID_AA64ISAR0_EL1.RNDR: it has' "$tool" check above
echo 'id_aa64dfr0_el1=0x5/0xf' > below
says "check names a field below its minimum" 'ID_AA64DFR0_EL1.DebugVer: it has' "$tool" check below
echo 'cntfrq_el0=1' > clock
says "check names the clock" 'CNTFRQ_EL0 is' "$tool" check clock
echo 'dczid_el0=0x9' > zero
says "check names DCZID_EL0" 'DCZID_EL0 is' "$tool" check zero
echo 'pmcr_el0.n=31' > counters
says "check names the event counters" 'PMCR_EL0.N: 31 event counters' "$tool" check counters
below=id_aa64isar0_el1=0x0/0xff000000fffffff0,id_aa64mmfr0_el1=0x0/0xf
# Linux 6.12 does not let userspace write RAS.
case $(uname -r) in 6.*) ;; *) below=$below,id_aa64pfr0_el1=0x0/0xf0000000 ;; esac
echo "$below" > below
"$tool" check below > out 2> err
check $? "check of what is hidden"
says "a file that is not there" 'none: No such file' "$tool" merge none
head -c 200 here.json > half
says "half a file" 'half: not a file of this program: it is truncated' "$tool" merge half
says "a host twice" 'the host here is given twice' "$tool" merge here.json here.json -o none
set -- none*
[ ! -e "$1" ]
check $? "and nothing is written"
: > real
ln -s real link
"$tool" merge here.json -o link 2> err && [ -L link ] && cmp -s here.json real
check $? "a link to a file stays, and the file is written"
sed 's/"midr_el1": *"0x[0-9a-f]*"/"midr_el1":"0x410fd070"/; s/"name": *"here"/"name":"a57"/' \
	here.json > a57.json
grep -q 0x410fd070 a57.json || : > a57.json
case $(uname -r) in
6.*)
	# KVM_CAP_ARM_WRITABLE_IMP_ID_REGS came later.
	says "MIDR_EL1 cannot be changed" 'MIDR_EL1: the hosts differ' \
		"$tool" merge here.json a57.json -o both.json
	;;
*)
	"$tool" merge here.json a57.json -o both.json 2> err && [ -s both.json ]
	check $? "JSON keeps hosts, whatever their errata"
	;;
esac

"$tool" check --applied text > out 2> err && grep -q '^VMs of this host have it\.$' out
check $? "VMs have this host's own CPU"
says "but not one with less" 'ID_AA64ISAR0_EL1.' "$tool" check --applied below

# Public values of AWS Graviton2, 3 and 4, and from the manuals of Neoverse V1 and V2 whether they
# have AArch32.
cat > g2 << EOF
ID_AA64DFR0_EL1 0x10305008
CTR_EL0 0xb444c004
ID_AA64MMFR2_EL1 0x0100000000000011
EOF
cat > g3 << EOF
ID_AA64DFR0_EL1 0xf010305009
CTR_EL0 0xb444c004
ID_AA64MMFR2_EL1 0x0220011100001011
EOF
cat > g4 << EOF
ID_AA64DFR0_EL1 0xf010305009
CTR_EL0 0xb444c004
ID_AA64MMFR2_EL1 0x1221011110001011
EOF
for one in g2 g3 g4; do
	"$tool" dump $one --name $one --like here.json -o $one.json 2> err
	check $? "a dump of $one"
done
parameters=/sys/module/kvm/parameters
if [ -e $parameters/baseline ]; then
	"$tool" merge g2.json g3.json g4.json --format kernel > out 2> err &&
		grep -q 'id_aa64dfr0_el1=0xf010305008/' out &&
		grep -q 'id_aa64mmfr2_el1=0x100000000000011/' out
	check $? "Graviton2, 3 and 4 have a CPU in common, with 6 and 2 breakpoints"
else
	for other in g3 g4; do
		"$tool" merge g2.json $other.json > out 2> err
		[ $? = 1 ] && [ ! -s out ] && grep -q '^baseline: no common CPU: .*EVT: g2' err &&
			grep -q 'FWB: g2' err && grep -q 'IDS: g2' err
		check $? "no CPU in common for g2 and $other: EVT, FWB, IDS"
	done
fi
printf 'ID_AA64PFR0_EL1 0x12\nID_DFR0_EL1 0x6010006\nID_ISAR0_EL1 0x2101110\n' >> g3
printf 'ID_AA64PFR0_EL1 0x11\nID_DFR0_EL1 0x6000000\nID_ISAR0_EL1 0x0\n' >> g4
for one in g3 g4; do
	"$tool" dump $one --name $one --like here.json -o $one.json 2> err
done
if [ -e $parameters/baseline ]; then
	"$tool" merge g3.json g4.json > out 2> err
	check $? "the kernel hides AArch32 of g3"
else
	says "AArch32 is why g3 and g4 have none" 'AArch32: g4 does not have it' \
		"$tool" merge g3.json g4.json
fi

# What the kernel takes is what the tool writes.
if [ -e $parameters/baseline ]; then
	"$tool" merge here.json --format markdown > page 2> err
	cat text > $parameters/baseline 2> err &&
		[ "$(cat $parameters/baseline)" = "$(cat text)" ] &&
		grep -qx "SHA-256: $(cat $parameters/baseline_sha256)" page
	check $? "the kernel takes the text of this host, and has the same digest"
	less='midr_el1=0x0,id_aa64isar0_el1=0x0/0xf0000000,pmcr_el0.n=1'
	grep -q 'smccc_wa1=0x0,' text || less=$less,smccc_wa1=0x0
	echo $less > other
	says "VMs do not have less" ' is ' "$tool" check --applied other
	cat other > $parameters/baseline 2> err && "$tool" check --applied other > out 2> err
	check $? "until they are given it"
	for word in $(echo $less | tr , ' '); do
		echo $less | sed "s|$word||; s/,,/,/; s/^,//; s/,$//" > $parameters/baseline
		key=$(echo ${word%%=*} | tr a-z A-Z)
		says "all but $key" "$key" sh -c \
			"$tool check --applied other 2>&1 > /dev/null | tr a-z A-Z >&2; exit 1"
	done
	echo > $parameters/baseline
	echo pmu=off > other
	says "and names what is offered" 'pmu is offered' "$tool" check --applied other
	cat other > $parameters/baseline 2> err && "$tool" check --applied other > out 2> err
	check $? "until it is not"
	says "a baseline hides what this host can do" 'take it away first' "$tool" probe --name under
	echo > $parameters/baseline
fi
finish
