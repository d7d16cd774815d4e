#ifndef KVEC_KERNELS_ATTENTION_CHECKS_H_
#define KVEC_KERNELS_ATTENTION_CHECKS_H_

#include <algorithm>

#include "absl/status/status.h"
#include "kernels/attention_batch.h"
#include "kernels/kv_arena.h"
#include "kernels/tensor.h"

namespace kvec::kernels {

// INTERNAL, naming the field, when a batch, its rows and the arena do not fit together. Page ids
// are the cache's invariant and are not looked at.
absl::Status CheckAttentionBatch(Tensor qkv, const HeadShape& shape, const AttentionBatch& batch,
                                 const KvArena& arena);

// The query heads [first, first + count) that read one KV head.
struct QueryGroup {
  int first;
  int count;
};

inline QueryGroup QueryGroupOf(const HeadShape& shape, int kv_head) {
  const int first = std::max(0, kv_head * shape.group_size - shape.group_offset);
  const int end = std::min(shape.num_heads, (kv_head + 1) * shape.group_size - shape.group_offset);
  return {first, end - first};
}

// The entries [begin, end) that a row sees.
struct VisibleEntries {
  int begin;
  int end;
};

inline VisibleEntries VisibleTo(const HeadPages& head, int num_rows, int row, int sliding_window) {
  const int end = head.num_entries - num_rows + row + 1;
  return {sliding_window > 0 ? std::max(0, end - sliding_window) : 0, end};
}

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_ATTENTION_CHECKS_H_
