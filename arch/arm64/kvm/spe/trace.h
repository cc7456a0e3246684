/* SPDX-License-Identifier: GPL-2.0 */
#if !defined(_TRACE_SPE_ARM64_KVM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_SPE_ARM64_KVM_H

#include <linux/tracepoint.h>
#include <asm/kvm_spe.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

TRACE_DEFINE_ENUM(KVM_SPE_COMPARED);
TRACE_DEFINE_ENUM(KVM_SPE_WALKED);
TRACE_DEFINE_ENUM(KVM_SPE_POSTPONED);
TRACE_DEFINE_ENUM(KVM_SPE_GONE);

TRACE_EVENT(kvm_spe_enable,
	    TP_PROTO(int vcpu_id, u64 pmbptr, u64 limit, u32 outcome),
	    TP_ARGS(vcpu_id, pmbptr, limit, outcome),

	    TP_STRUCT__entry(__field(int, vcpu_id)
			     __field(u64, pmbptr)
			     __field(u64, limit)
			     __field(u32, outcome)
	    ),

	    TP_fast_assign(__entry->vcpu_id = vcpu_id;
			   __entry->pmbptr = pmbptr;
			   __entry->limit = limit;
			   __entry->outcome = outcome;
	    ),

	    TP_printk("vCPU %d: 0x%llx to 0x%llx: %s", __entry->vcpu_id,
		      __entry->pmbptr, __entry->limit,
		      __print_symbolic(__entry->outcome,
				       { KVM_SPE_COMPARED, "compared" },
				       { KVM_SPE_WALKED, "walked" },
				       { KVM_SPE_POSTPONED, "postponed" },
				       { KVM_SPE_GONE, "gone" }))
);

TRACE_EVENT(kvm_spe_kick,
	    TP_PROTO(int vcpu_id, u64 first, u64 last),
	    TP_ARGS(vcpu_id, first, last),

	    TP_STRUCT__entry(__field(int, vcpu_id)
			     __field(u64, first)
			     __field(u64, last)
	    ),

	    TP_fast_assign(__entry->vcpu_id = vcpu_id;
			   __entry->first = first;
			   __entry->last = last;
	    ),

	    TP_printk("vCPU %d: frames 0x%llx to 0x%llx change", __entry->vcpu_id,
		      __entry->first, __entry->last)
);

TRACE_EVENT(kvm_spe_event,
	    TP_PROTO(int vcpu_id, u64 pmbptr, u64 pmbsr, u64 seen),
	    TP_ARGS(vcpu_id, pmbptr, pmbsr, seen),

	    TP_STRUCT__entry(__field(int, vcpu_id)
			     __field(u64, pmbptr)
			     __field(u64, pmbsr)
			     __field(u64, seen)
	    ),

	    TP_fast_assign(__entry->vcpu_id = vcpu_id;
			   __entry->pmbptr = pmbptr;
			   __entry->pmbsr = pmbsr;
			   __entry->seen = seen;
	    ),

	    TP_printk("vCPU %d: 0x%llx: PMBSR_EL1 0x%llx, for the guest 0x%llx",
		      __entry->vcpu_id, __entry->pmbptr, __entry->pmbsr, __entry->seen)
);

#endif /* _TRACE_SPE_ARM64_KVM_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH spe
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

/* This part must be outside protection */
#include <trace/define_trace.h>
