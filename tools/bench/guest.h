/* SPDX-License-Identifier: GPL-2.0 */
/* The guest's code, copied as a whole, and its loops: see guest.S. */
#ifndef ARMATURE_BENCH_GUEST_H
#define ARMATURE_BENCH_GUEST_H

extern char guest_code[], guest_code_end[];

extern char guest_nop0[], guest_nop1000[];
extern char guest_hypercall[], guest_hypercall_nop1000[];
extern char guest_id_reg[];
extern char guest_store[];
extern char guest_debug_hypercall[], guest_debug_store[];
extern char guest_debug_write[];
extern char guest_debug_write_idle[];
extern char guest_spe_enabled[];
extern char guest_spe_pair[];
extern char guest_spe_windows[];
extern char guest_call[];

#endif
