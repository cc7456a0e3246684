/* SPDX-License-Identifier: GPL-2.0 */
#if !defined(_TRACE_DEBUG_TOPOLOGY_ARM64_KVM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DEBUG_TOPOLOGY_ARM64_KVM_H

#include <linux/tracepoint.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

TRACE_EVENT(kvm_debug_topology_write,
	    TP_PROTO(int vcpu_id, u32 op2, u32 number, u64 value, u32 phys_number,
		     u64 phys_value),
	    TP_ARGS(vcpu_id, op2, number, value, phys_number, phys_value),

	    TP_STRUCT__entry(__field(int, vcpu_id)
			     __field(u32, op2)
			     __field(u32, number)
			     __field(u64, value)
			     __field(u32, phys_number)
			     __field(u64, phys_value)
	    ),

	    TP_fast_assign(__entry->vcpu_id = vcpu_id;
			   __entry->op2 = op2;
			   __entry->number = number;
			   __entry->value = value;
			   __entry->phys_number = phys_number;
			   __entry->phys_value = phys_value;
	    ),

	    TP_printk("vCPU %d: %s: %u: 0x%llx -> %u: 0x%llx",
		      __entry->vcpu_id,
		      __print_symbolic(__entry->op2,
				       { 4, "DBGBVR" }, { 5, "DBGBCR" },
				       { 6, "DBGWVR" }, { 7, "DBGWCR" }),
		      __entry->number, __entry->value,
		      __entry->phys_number, __entry->phys_value)
);

#endif /* _TRACE_DEBUG_TOPOLOGY_ARM64_KVM_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH debug_topology
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

/* This part must be outside protection */
#include <trace/define_trace.h>
