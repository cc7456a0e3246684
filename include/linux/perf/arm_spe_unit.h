/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The statistical profiling units (SPUs) of this machine.
 */

#ifndef __PERF_ARM_SPE_UNIT_H__
#define __PERF_ARM_SPE_UNIT_H__

#include <linux/cpumask.h>
#include <linux/module.h>
#include <linux/perf_event.h>

/**
 * struct arm_spe_unit - An SPU, which one or more CPUs have
 * @pmsidr: PMSIDR_EL1 of its CPUs
 * @pmbidr: PMBIDR_EL1, read at an exception level that may use the buffer
 * @events: the bits of PMSEVFR_EL1 and PMSNEVFR_EL1 that it has
 * @pmsver: ID_AA64DFR0_EL1.PMSVer
 * @type: perf type of the driver's device
 * @cpus: its CPUs, which do not change
 * @owner: module of the driver
 * @differs: the registers differ between its CPUs, so no guest can have the unit
 * @next: for the registry
 */
struct arm_spe_unit {
#ifdef CONFIG_ARM_SPE_UNIT
	u64			pmsidr;
	u64			pmbidr;
	u64			events;
	u32			pmsver;
	int			type;
	const struct cpumask	*cpus;
	struct module		*owner;
	bool			differs;
	struct arm_spe_unit	*next;
#endif
};

#ifdef CONFIG_ARM_SPE_UNIT

void arm_spe_unit_read(struct arm_spe_unit *unit, u64 events);
int arm_spe_unit_check(struct arm_spe_unit *unit);
void arm_spe_unit_register(struct arm_spe_unit *unit, const struct pmu *pmu,
			   const struct cpumask *cpus);
void arm_spe_unit_unregister(struct arm_spe_unit *unit);
const struct arm_spe_unit *arm_spe_unit_get(int type);
void arm_spe_unit_put(const struct arm_spe_unit *unit);

#else

static inline int arm_spe_unit_check(struct arm_spe_unit *unit)
{
	return 0;
}

static inline void arm_spe_unit_read(struct arm_spe_unit *unit, u64 events) { }
static inline void arm_spe_unit_register(struct arm_spe_unit *unit, const struct pmu *pmu,
					 const struct cpumask *cpus) { }
static inline void arm_spe_unit_unregister(struct arm_spe_unit *unit) { }

#endif /* CONFIG_ARM_SPE_UNIT */

#endif /* __PERF_ARM_SPE_UNIT_H__ */
