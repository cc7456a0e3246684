/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bare-metal program that executes a known number of instructions of each
 * class, at EL2, EL1 and EL0. Entered at EL2 with the MMU off.
 *
 * What is expected stands beside the code: a comment "//= KEY N" adds N to what
 * the report must say for KEY. Instructions that the emulated CPU does not have
 * are skipped by the exception handler, and count all the same: a count is of
 * instructions begun.
 */
	.arch	armv9.4-a+lse128+the+memtag+d128

/* Executes an instruction n times. */
	.macro	times n:req, insn:vararg
	mov	x28, #\n
.Lagain\@:
	\insn
	subs	x28, x28, #1
	b.ne	.Lagain\@
	.endm

/* As above, for an instruction that the assembler does not know. */
	.macro	times_word n:req, opcode:req
	times	\n, .inst \opcode
	.endm

	.macro	sizes op:req
	\op\()b	w1, w2, [x20]
	\op\()h	w1, w2, [x20]
	\op	w1, w2, [x20]
	\op	x1, x2, [x20]
	.endm

	.macro	orders op:req
	sizes	\op
	sizes	\op\()a
	sizes	\op\()l
	sizes	\op\()al
	.endm

	.macro	mark_start
	hint	#0x5a
	.endm

	.macro	mark_stop
	hint	#0x5b
	.endm

	.text
	.globl	_start
_start:
	adr	x0, vectors
	msr	vbar_el2, x0
	msr	vbar_el1, x0
	adr	x20, data
	mov	x8, xzr
	mov	x0, #(1 << 31)			// HCR_EL2.RW
	msr	hcr_el2, x0
	isb

at_el2:
	times	3, ldadd x1, x2, [x20]		//= lse 3
						//= el 2 lse 3
						//= range el2text lse 3
	hvc	#0				//= hvc 1
						//= el 2 hvc 1
						//= range el2text hvc 1
	times	2, bl shared			//= lse 2
						//= el 2 lse 2
	bl	to_el1

at_el1:
	mark_start
	times	5, cas x1, x2, [x20]		//= lse 5
						//= mark 1 lse 5
						//= el 1 lse 5
	times	2, ic ialluis			//= ic_ialluis 2
						//= mark 1 ic_ialluis 2
	times	7, ic ivau, x20			//= ic_ivau 7
						//= mark 1 ic_ivau 7
						//= mark 1 el 1 ic_ivau 7
	mark_stop				// 3 loops of 1 + 3n: 3 + 3 * 14
						//= mark 1 insns 45
						//= mark 1 el 1 insns 45
						//= mark 1 ic 9
						//= mark 1 atomics 5
						//= mark 1 range other lse 5

	mark_start				// restarted by the next one
	ic	iallu				//= ic_iallu 1
	hint	#17				// PSB CSYNC
						//= psb 1
	mark_start
	times	1, casp x0, x1, x2, x3, [x20]	//= lse 1
						//= mark 2 lse 1
						//= el 1 lse 1
	mark_stop				//= mark 2 insns 4
						//= mark 2 ic_iallu 0
	mark_stop				// ignored

	/* FEAT_LSE: every form once, 10 operations in 4 orders and 4 sizes. */
	.irp	op, ldadd, ldclr, ldeor, ldset, ldsmax, ldsmin, ldumax, ldumin, swp, cas
	orders	\op
	.endr					//= lse 160
						//= el 1 lse 160
	.irp	op, stadd, stclr, steor, stset, stsmax, stsmin, stumax, stumin
	\op	x1, [x20]			//= lse 8
						//= el 1 lse 8
	.endr

	/* Neighbours of the LSE encodings. */
	times	3, ldapr x1, [x20]
	ldxr	x1, [x20]
	stxr	w2, x1, [x20]
	times	2, ldar x1, [x20]

	times	2, swpp x0, x1, [x20]		//= lse128 2
						//= el 1 lse128 2
	times	3, ldclrpal x0, x1, [x20]	//= lse128 3
						//= el 1 lse128 3
	times	4, rcwcas x0, x1, [x20]		//= rcw 4
	rcwswpp	x0, x1, [x20]			//= rcw 1
	times_word 3, 0xc9c0fe82		//= lsui 3		(casalt x0, x2, [x20])
	times_word 2, 0x19610682		//= lsui 2		(ldtaddl w1, w2, [x20])
	times_word 5, 0xc95f7e81		//= lsui_ex 5		(ldtxr x1, [x20])
	times_word 1, 0xc9027e81		//= lsui_ex 1		(sttxr w2, x1, [x20])
	times_word 2, 0xe9400a81		//= lsui_pair 2		(ldtp x1, x2, [x20])
	times_word 6, 0xfce10282		//= lsfe 6		(ldfaddal d1, d2, [x20])

	times	3, dc civac, x20		//= dc_civac 3
	times	2, dc cvac, x20			//= dc_cvac 2
	times	4, dc cvau, x20			//= dc_cvau 4
	dc	cvap, x20			//= dc_cvap 1
	dc	cvadp, x20			//= dc_cvadp 1
	dc	ivac, x20			//= dc_ivac 1
	times	2, dc cisw, xzr			//= dc_cisw 2
	dc	isw, xzr			//= dc_isw 1
	dc	csw, xzr			//= dc_csw 1
	dc	cigdvac, x20			//= dc_cigdvac 1
	times	9, tlbi vmalle1is		//= tlbi 9
	tlbi	vae1, x20			//= tlbi 1
	tlbi	vmalle1nxs			//= tlbi 1
	mov	x0, #0x84000000			// PSCI_VERSION
	times	2, smc #0			//= smc 2
						//= el 1 smc 2
	hvc	#1				//= hvc 1
						//= el 1 hvc 1
	times	6, bl shared			//= lse 6
						//= el 1 lse 6
	bl	to_el0

at_el0:
	times	11, swpal w1, w2, [x20]		//= lse 11
						//= el 0 lse 11
	mark_start
	times	8, svc #0			//= svc 8
						//= mark 3 svc 8
						//= el 0 svc 8
						//= mark 3 eret 8
						//= mark 3 el 1 eret 8
	mark_stop
	times	4, bl shared			//= lse 4
						//= el 0 lse 4
	mov	x8, #1
	svc	#0				//= svc 1
						//= el 0 svc 1
	/* Not reached. */
	b	.

/* Runs at all three levels, so from one address and as three translations. */
shared:
	swp	x1, x2, [x20]
	ret

/* Continues at the return address, one Exception level down. */
to_el1:
	mov	x0, #0x3c5			// EL1h, DAIF masked
	msr	spsr_el2, x0
	msr	elr_el2, x30
	eret
to_el0:
	mov	x0, #0x3c0			// EL0t
	msr	spsr_el1, x0
	msr	elr_el1, x30
	eret

/* PSCI SYSTEM_OFF by SMC, which QEMU implements where there is EL2 and no EL3. */
power_off:
	movz	x0, #0x8400, lsl #16
	movk	x0, #0x0008
	smc	#0				//= smc 1
						//= el 1 smc 1
	b	.

/*
 * A lower level's SVC or HVC is returned from; an undefined instruction
 * (ESR_ELx.EC = 0) is stepped over first. An SVC with x8 = 1 powers off. x9 to
 * x11 are the handlers' own.
 */
	.macro	handler el:req
	.balign	128
	mrs	x9, esr_el\el
	lsr	x9, x9, #26
	cbnz	x9, 1f
	mrs	x10, elr_el\el
	add	x10, x10, #4
	msr	elr_el\el, x10
	b	2f
1:	cmp	x8, #1
	b.eq	power_off
2:	eret
	.endm

/* Both levels use one table: an exception is told apart by CurrentEL. */
	.balign	2048
vectors:
	.rept	16
	.balign	128
	b	sync
	.endr

sync:
	mrs	x11, currentel
	cmp	x11, #(2 << 2)
	b.eq	sync_el2
	handler	1
sync_el2:
	handler	2

	.balign	64
data:
	.quad	0, 0, 0, 0, 0, 0, 0, 0
