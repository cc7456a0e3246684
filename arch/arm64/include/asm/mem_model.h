/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory model of a thread.
 */

#ifndef __ASM_MEM_MODEL_H
#define __ASM_MEM_MODEL_H

#ifdef CONFIG_ARM64_MEMORY_MODEL_CONTROL

#include <linux/prctl.h>
#include <linux/sched.h>

#include <asm/alternative.h>
#include <asm/sysreg.h>

extern u32 memory_model_of_guests;

bool memory_model_has_control(void);
void memory_model_load(u32 model);
long memory_model_get(struct task_struct *me);
long memory_model_set(struct task_struct *me, unsigned long model);
u64 __memory_model_hide_aidr(u64 aidr);
u64 __memory_model_hide_actlr(u64 actlr);

static __always_inline bool system_switches_memory_models(void)
{
	return alternative_has_cap_unlikely(ARM64_HAS_TSO_CONTROL);
}

static __always_inline void memory_model_thread_switch(struct task_struct *prev,
						       struct task_struct *next)
{
	if (!system_switches_memory_models())
		return;

	if (prev->thread.mem_model != next->thread.mem_model)
		memory_model_load(next->thread.mem_model);
}

/* A new program starts with the default. */
static inline void memory_model_flush_thread(void)
{
	memory_model_set(current, PR_SET_MEM_MODEL_DEFAULT);
}

/* So does a new thread of the kernel, which inherits nothing. */
static inline void memory_model_reset_thread(struct task_struct *new)
{
	new->thread.mem_model = PR_SET_MEM_MODEL_DEFAULT;
}

/* This CPU may have lost its registers. */
static inline void memory_model_suspend_exit(void)
{
	if (system_switches_memory_models())
		memory_model_load(current->thread.mem_model);
}

/* What guests get while a vCPU is loaded, and what the thread gets back. */
static __always_inline void memory_model_vcpu_load(void)
{
	if (system_switches_memory_models() &&
	    current->thread.mem_model != memory_model_of_guests)
		memory_model_load(memory_model_of_guests);
}

static __always_inline void memory_model_vcpu_put(void)
{
	if (system_switches_memory_models() &&
	    current->thread.mem_model != memory_model_of_guests)
		memory_model_load(current->thread.mem_model);
}

/* The parts of both registers that a guest may know of. */
static inline u64 memory_model_hide_aidr(u64 aidr)
{
	return system_switches_memory_models() ? __memory_model_hide_aidr(aidr) : aidr;
}

/* Likewise for what a trapped read of @reg has got; returns @skip. */
static inline bool memory_model_hide_id(bool skip, u32 reg, u64 *value)
{
	if (reg == SYS_AIDR_EL1)
		*value = memory_model_hide_aidr(*value);
	return skip;
}

static inline u64 memory_model_hide_actlr(u64 actlr)
{
	return system_switches_memory_models() ? __memory_model_hide_actlr(actlr) : actlr;
}

#else

struct task_struct;

static __always_inline void memory_model_thread_switch(struct task_struct *prev,
						       struct task_struct *next) { }
static inline void memory_model_flush_thread(void) { }
static inline void memory_model_reset_thread(struct task_struct *new) { }
static inline void memory_model_suspend_exit(void) { }
static __always_inline void memory_model_vcpu_load(void) { }
static __always_inline void memory_model_vcpu_put(void) { }

static inline u64 memory_model_hide_aidr(u64 aidr)
{
	return aidr;
}

static inline u64 memory_model_hide_actlr(u64 actlr)
{
	return actlr;
}

static inline bool memory_model_hide_id(bool skip, u32 reg, u64 *value)
{
	return skip;
}

#endif /* CONFIG_ARM64_MEMORY_MODEL_CONTROL */

#endif /* __ASM_MEM_MODEL_H */
