/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory model of a thread.
 */

#ifndef __ASM_ARM64_MEMORY_MODEL_H
#define __ASM_ARM64_MEMORY_MODEL_H

#include <linux/types.h>

#ifdef CONFIG_ARM64_MEMORY_MODEL_CONTROL

#include <linux/prctl.h>
#include <linux/sched.h>

#include <asm/alternative.h>
#include <asm/cputype.h>
#include <asm/sysreg.h>

/* In memory_model.rs */
bool memory_model_has_control(void);
bool memory_model_gives_guests_tso(void);
bool memory_model_is_fixed(const struct target_impl_cpu *cpus, u64 number);
void memory_model_cpu_enable(void);
void memory_model_leave(void);
void memory_model_resume(u32 thread);
void memory_model_switch(u32 thread);
void memory_model_load_guest(void);
void memory_model_put_guest(u32 thread);
int memory_model_guests_setup(char *arg);
void memory_model_guests_init(void);

/* In cpu_errata.c: calls memory_model_is_fixed() with the CPUs that this kernel may run on. */
bool has_tso_fixed(void);

static __always_inline bool system_switches_memory_models(void)
{
	return alternative_has_cap_unlikely(ARM64_HAS_TSO_CONTROL);
}

/*
 * Called after the DSB in __switch_to(), so the accesses of @prev have completed under
 * the model of @prev.
 */
static __always_inline void memory_model_thread_switch(struct task_struct *prev,
						       struct task_struct *next)
{
	if (!system_switches_memory_models())
		return;

	if (prev->thread.memory_model != next->thread.memory_model)
		memory_model_switch(next->thread.memory_model);
}

/* A new program starts with the default. */
static inline void memory_model_flush_thread(void)
{
	memory_model_set(current, PR_SET_MEM_MODEL_DEFAULT);
}

/* A new kernel thread starts with the default, and does not inherit a model. */
static inline void memory_model_reset_thread(struct task_struct *new)
{
	new->thread.memory_model = PR_SET_MEM_MODEL_DEFAULT;
}

/* Restores the models of this CPU, which may have lost its registers. */
static inline void memory_model_suspend_exit(void)
{
	if (system_switches_memory_models())
		memory_model_resume(current->thread.memory_model);
}

/* Restores the models that firmware has left. Preemption is off. */
static inline void memory_model_cpu_leave(void)
{
	if (system_switches_memory_models())
		memory_model_leave();
}

/* Puts the model of guests in force while a vCPU is loaded; _put() restores the thread's. */
static __always_inline void memory_model_vcpu_load(void)
{
	if (system_switches_memory_models())
		memory_model_load_guest();
}

static __always_inline void memory_model_vcpu_put(void)
{
	if (system_switches_memory_models())
		memory_model_put_guest(current->thread.memory_model);
}

#else

struct task_struct;

static __always_inline void memory_model_thread_switch(struct task_struct *prev,
						       struct task_struct *next) { }
static inline void memory_model_flush_thread(void) { }
static inline void memory_model_reset_thread(struct task_struct *new) { }
static inline void memory_model_suspend_exit(void) { }
static inline void memory_model_cpu_leave(void) { }
static __always_inline void memory_model_vcpu_load(void) { }
static __always_inline void memory_model_vcpu_put(void) { }
static inline void memory_model_guests_init(void) { }

#endif /* CONFIG_ARM64_MEMORY_MODEL_CONTROL */

#endif /* __ASM_ARM64_MEMORY_MODEL_H */
