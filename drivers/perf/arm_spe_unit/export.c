// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls of a driver that is a module; the functions are in Rust.
 */

#include <linux/export.h>
#include <linux/perf/arm_spe_unit.h>

EXPORT_SYMBOL_GPL(arm_spe_unit_check);
EXPORT_SYMBOL_GPL(arm_spe_unit_read);
EXPORT_SYMBOL_GPL(arm_spe_unit_register);
EXPORT_SYMBOL_GPL(arm_spe_unit_unregister);
