#ifndef KVEC_COORDINATOR_SCHEDULER_PAGE_DEMAND_H_
#define KVEC_COORDINATOR_SCHEDULER_PAGE_DEMAND_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace kvec::coordinator::scheduler {

// Tokens of one KV head of one layer in a page (DESIGN.md, "The KV pool").
inline constexpr uint32_t kPageTokens = 16;

// How many pages a sequence from which nothing was evicted takes on one worker. Every KV head of a
// layer has num_rows entries in ceil(num_rows / 16) pages. Under a sliding window w a worker frees,
// at the end of each Step, the pages whose entries the next token does not see: the first
// floor((num_rows - w + 1) / 16).
class PageDemand {
 public:
  // sliding_windows: of each layer, 0 for full attention.
  PageDemand(uint32_t num_kv_heads, absl::Span<const uint32_t> sliding_windows);

  // Held between two Steps, without the first shared_pages of each head.
  uint64_t Held(uint32_t num_rows, uint32_t shared_pages) const;
  // Held while a Step adds the last step_rows of num_rows rows.
  uint64_t HeldInStep(uint32_t num_rows, uint32_t step_rows, uint32_t shared_pages) const;
  // An upper bound of HeldInStep on the way to num_rows in Steps of at most max_step_rows.
  uint64_t Peak(uint32_t num_rows, uint32_t max_step_rows) const;
  // The same when layers without a window are evicted on the way: all their heads together never hold
  // more than max_entries.
  uint64_t BoundedPeak(uint32_t num_rows, uint32_t max_step_rows, uint64_t max_entries) const;
  // Of the first num_pages pages of each head, those still held after num_rows rows.
  uint64_t HeldOfFirst(uint32_t num_pages, uint32_t num_rows) const;
  // Entries that the next token sees.
  uint64_t Entries(uint32_t num_rows) const;
  // KV heads of layers without a window.
  uint64_t num_full_heads() const;
  // One page of every head.
  uint64_t OnePerHead() const { return num_heads_; }

 private:
  // Layers with the same window.
  struct LayerClass {
    uint32_t sliding_window = 0;
    uint64_t num_heads = 0;  // KV heads of all these layers
    uint64_t Peak(uint32_t num_rows, uint32_t max_step_rows) const;
  };

  std::vector<LayerClass> classes_;
  uint64_t num_heads_ = 0;  // KV heads of all layers
};

}  // namespace kvec::coordinator::scheduler

#endif  // KVEC_COORDINATOR_SCHEDULER_PAGE_DEMAND_H_
