/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest, EL1, with the MMU off except for the profiling unit: endless loops that each store,
 * to the address in x19 that has no memory behind it, what their region measured.
 */
	.macro	begin, name
	.global	\name
\name:
	.endm

	.macro	start
	mrs	x9, cntvct_el0
	.endm

	.macro	stop
	mrs	x10, cntvct_el0
	sub	x10, x10, x9
	sub	x10, x10, #1		// the second read counts itself
	str	x10, [x19]
	.endm

	.section .rodata
	.balign	4096
	.global	guest_code
guest_code:

begin guest_nop0
	start
	stop
	b	guest_nop0

begin guest_nop1000
	start
	.rept	1000
	nop
	.endr
	stop
	b	guest_nop1000

/* PSCI_VERSION, which the kernel answers itself. */
begin guest_hypercall
	mov	w0, #0x84000000
	start
	hvc	#0
	stop
	b	guest_hypercall

begin guest_hypercall_nop1000
	mov	w0, #0x84000000
	start
	hvc	#0
	.rept	1000
	nop
	.endr
	stop
	b	guest_hypercall_nop1000

/* ID registers of group 3 trap (Arm ARM, HCR_EL2.TID3). */
begin guest_id_reg
	start
	mrs	x0, id_aa64dfr0_el1
	stop
	b	guest_id_reg

/* Nothing but exits, for user space to measure. */
begin guest_store
	str	xzr, [x19]
	b	guest_store

/* With debug exceptions enabled, so that KVM switches the debug registers. */
	.macro	debug_on
	mov	x11, #(1 << 15)		// MDSCR_EL1.MDE
	msr	mdscr_el1, x11
	isb
	.endm

begin guest_debug_hypercall
	debug_on
	mov	w0, #0x84000000
	start
	hvc	#0
	stop
	b	guest_debug_hypercall

begin guest_debug_store
	debug_on
1:	str	xzr, [x19]
	b	1b

begin guest_debug_write
	debug_on
	start
	msr	dbgbvr1_el1, xzr
	stop
	b	guest_debug_write

/* The same while nothing enables debug exceptions. */
begin guest_debug_write_idle
	start
	msr	dbgbvr1_el1, xzr
	stop
	b	guest_debug_write_idle

/*
 * The unit's buffer is from x20 to x22, whose bit 0 enables it. The accesses are those of Linux's
 * driver, arm_spe_pmu_start() and arm_spe_pmu_stop(), without PMSCR_EL1: nothing is sampled.
 */
	.macro	spe_start
	msr	s3_0_c9_c10_1, x20	// PMBPTR_EL1
	msr	s3_0_c9_c10_0, x22	// PMBLIMITR_EL1
	isb
	.endm

	.macro	spe_stop
	hint	#17			// PSB CSYNC
	dsb	nsh
	isb
	mrs	x11, s3_0_c9_c10_3	// PMBSR_EL1
	mrs	x11, s3_0_c9_c10_1	// PMBPTR_EL1
	msr	s3_0_c9_c10_0, xzr	// PMBLIMITR_EL1
	isb
	.endm

/* Hypercalls with the buffer enabled: nothing is sampled, since PMSCR_EL1 is 0. */
begin guest_spe_enabled
	mov	w0, #0x84000000
	spe_start
1:	start
	hvc	#0
	stop
	b	1b

begin guest_spe_pair
	start
	spe_start
	spe_stop
	stop
	b	guest_spe_pair

/* A start, each at the next place (x21). */
begin guest_spe_windows
	start
	spe_start
	stop
	spe_stop
	add	x20, x20, x21
	add	x22, x22, x21
	b	guest_spe_windows

/* Call x20, then the same place one step (x21) on. */
begin guest_call
	start
	blr	x20
	stop
	add	x20, x20, x21
	b	guest_call

	.balign	4096
	.global	guest_code_end
guest_code_end:

	.section .note.GNU-stack, "", %progbits
