#ifndef KVEC_KERNELS_CPU_GATHER_ENTRIES_H_
#define KVEC_KERNELS_CPU_GATHER_ENTRIES_H_

#include "absl/types/span.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/window_scores.h"

namespace kvec::kernels::cpu {

// Moves the kept entries of every head, keys, values and positions, to the leading places of its
// to_pages. In place where these are the head's own pages: an entry only ever moves forward.
void GatherEntries(ThreadPool& pool, absl::Span<const GatherRequest> requests, CpuKvArena& arena);

}  // namespace kvec::kernels::cpu

#endif  // KVEC_KERNELS_CPU_GATHER_ENTRIES_H_
