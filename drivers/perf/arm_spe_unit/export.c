// SPDX-License-Identifier: GPL-2.0-only
/*
 * Exports the functions of arm_spe_unit.rs that the driver, which may be a module, calls.
 */

#include <linux/export.h>
#include <linux/perf/arm_spe_unit.h>

EXPORT_SYMBOL_GPL(arm_spe_unit_check);
EXPORT_SYMBOL_GPL(arm_spe_unit_read);
EXPORT_SYMBOL_GPL(arm_spe_unit_register);
EXPORT_SYMBOL_GPL(arm_spe_unit_unregister);
