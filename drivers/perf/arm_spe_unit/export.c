// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls of a driver that is a module; the functions are in Rust.
 */

#include <linux/export.h>
#include <linux/perf/arm_spe_unit.h>

#define EXPORT_FROM_RUST(name)	EXPORT_SYMBOL_GPL(name)

EXPORT_FROM_RUST(arm_spe_unit_check);
EXPORT_FROM_RUST(arm_spe_unit_read);
EXPORT_FROM_RUST(arm_spe_unit_register);
EXPORT_FROM_RUST(arm_spe_unit_unregister);
