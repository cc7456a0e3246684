/* SPDX-License-Identifier: GPL-2.0 */
#if !defined(_TRACE_BASELINE_ARM64_KVM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_BASELINE_ARM64_KVM_H

#include <linux/tracepoint.h>

#include <asm/kvm_baseline.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

TRACE_EVENT(kvm_baseline_lower,
	    TP_PROTO(int vcpu_id, u32 id, u64 limit, u64 value),
	    TP_ARGS(vcpu_id, id, limit, value),

	    TP_STRUCT__entry(__field(int, vcpu_id)
			     __string(name, kvm_id_reg_name(id))
			     __field(u64, limit)
			     __field(u64, value)
	    ),

	    TP_fast_assign(__entry->vcpu_id = vcpu_id;
			   __assign_str(name);
			   __entry->limit = limit;
			   __entry->value = value;
	    ),

	    TP_printk("vCPU %d: %s: 0x%llx -> 0x%llx", __entry->vcpu_id, __get_str(name),
		      __entry->limit, __entry->value)
);

#endif /* _TRACE_BASELINE_ARM64_KVM_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH baseline
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

/* This part must be outside protection */
#include <trace/define_trace.h>
