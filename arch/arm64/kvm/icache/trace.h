/* SPDX-License-Identifier: GPL-2.0 */
#if !defined(_TRACE_ICACHE_ARM64_KVM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_ICACHE_ARM64_KVM_H

#include <linux/tracepoint.h>
#include <asm/kvm_icache.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm

TRACE_DEFINE_ENUM(KVM_ICACHE_NOTHING);
TRACE_DEFINE_ENUM(KVM_ICACHE_BY_LINE);
TRACE_DEFINE_ENUM(KVM_ICACHE_FULL);
TRACE_DEFINE_ENUM(KVM_ICACHE_SHARED);

TRACE_EVENT(kvm_icache_inval,
	    TP_PROTO(u64 size, u32 result),
	    TP_ARGS(size, result),

	    TP_STRUCT__entry(__field(u64, size)
			     __field(u32, result)
	    ),

	    TP_fast_assign(__entry->size = size;
			   __entry->result = result;
	    ),

	    TP_printk("size: 0x%llx, %s", __entry->size,
		      __print_symbolic(__entry->result,
				       { KVM_ICACHE_NOTHING, "nothing" },
				       { KVM_ICACHE_BY_LINE, "by line" },
				       { KVM_ICACHE_FULL, "full" },
				       { KVM_ICACHE_SHARED, "shared" }))
);

#endif /* _TRACE_ICACHE_ARM64_KVM_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH icache
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace

/* This part must be outside protection */
#include <trace/define_trace.h>
