/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bare-metal program whose two CPUs each execute IC IALLUIS three times, at the
 * same time. Entered at EL2 with the MMU off, so by PSCI over SMC.
 *
 * It times itself, since how long QEMU takes to start says nothing, and tells
 * the result by what it executes at the end: DC CVAC n times, where n is for how
 * many tenths of a second both were busy.
 */
	.text
	.globl	_start
_start:
	movz	x0, #0xc400, lsl #16		// CPU_ON (64-bit)
	movk	x0, #0x0003
	mov	x1, #1				// MPIDR_EL1.Aff0
	adr	x2, second
	mov	x3, xzr
	smc	#0
	adr	x1, started
	bl	wait
	mrs	x20, cntpct_el0
	adr	x1, go
	bl	signal
	bl	invalidate
	adr	x1, done
	bl	wait

	mrs	x21, cntpct_el0
	sub	x21, x21, x20
	mrs	x22, cntfrq_el0
	mov	x1, #10
	mul	x21, x21, x1
	udiv	x21, x21, x22
1:	cbz	x21, 2f
	dc	cvac, x1
	sub	x21, x21, #1
	b	1b
2:	movz	x0, #0x8400, lsl #16		// SYSTEM_OFF
	movk	x0, #0x0008
	smc	#0

second:
	adr	x1, started
	bl	signal
	adr	x1, go
	bl	wait
	bl	invalidate
	adr	x1, done
	bl	signal
	b	.

invalidate:
	.rept	3
	ic	ialluis
	.endr
	ret

signal:
	mov	w0, #1
	stlr	w0, [x1]
	ret

wait:
	ldar	w0, [x1]
	cbz	w0, wait
	ret

	.balign	8
started:
	.word	0
go:
	.word	0
done:
	.word	0
