#include "coordinator/scheduler/page_demand.h"

#include <algorithm>

namespace kvec::coordinator::scheduler {
namespace {

uint32_t PagesFor(uint32_t num_rows) {
  return num_rows / kPageTokens + (num_rows % kPageTokens != 0 ? 1 : 0);
}

// Leading pages that slid out of the window when num_rows rows are in.
uint32_t PagesSlidOut(uint32_t num_rows, uint32_t sliding_window) {
  if (sliding_window == 0 || num_rows < sliding_window) return 0;
  return (num_rows - sliding_window + 1) / kPageTokens;
}

}  // namespace

PageDemand::PageDemand(uint32_t num_kv_heads, absl::Span<const uint32_t> sliding_windows) {
  for (uint32_t window : sliding_windows) {
    num_heads_ += num_kv_heads;
    const auto same = std::find_if(classes_.begin(), classes_.end(), [window](const auto& layers) {
      return layers.sliding_window == window;
    });
    if (same == classes_.end()) {
      classes_.push_back({window, num_kv_heads});
    } else {
      same->num_heads += num_kv_heads;
    }
  }
}

uint64_t PageDemand::Held(uint32_t num_rows, uint32_t shared_pages) const {
  return HeldInStep(num_rows, 0, shared_pages);
}

uint64_t PageDemand::HeldInStep(uint32_t num_rows, uint32_t step_rows,
                                uint32_t shared_pages) const {
  uint64_t pages = 0;
  for (const LayerClass& layers : classes_) {
    const uint32_t first =
        std::max(shared_pages, PagesSlidOut(num_rows - step_rows, layers.sliding_window));
    pages += layers.num_heads * (PagesFor(num_rows) - first);
  }
  return pages;
}

uint64_t PageDemand::LayerClass::Peak(uint32_t num_rows, uint32_t max_step_rows) const {
  uint64_t most = PagesFor(num_rows);
  if (sliding_window > 0) {
    // The first row of a Step sees window - 1 entries before it, which begin up to 15 entries into a
    // page.
    const uint64_t entries = uint64_t{sliding_window} - 1 + std::min(max_step_rows, num_rows);
    most = std::min(most, (entries + uint64_t{2} * (kPageTokens - 1)) / kPageTokens);
  }
  return num_heads * most;
}

uint64_t PageDemand::Peak(uint32_t num_rows, uint32_t max_step_rows) const {
  uint64_t pages = 0;
  for (const LayerClass& layers : classes_) pages += layers.Peak(num_rows, max_step_rows);
  return pages;
}

uint64_t PageDemand::BoundedPeak(uint32_t num_rows, uint32_t max_step_rows,
                                 uint64_t max_entries) const {
  uint64_t pages = 0;
  for (const LayerClass& layers : classes_) {
    uint64_t most = layers.Peak(num_rows, max_step_rows);
    // Every head may begin a page.
    if (layers.sliding_window == 0) most = std::min(most, max_entries / kPageTokens + layers.num_heads);
    pages += most;
  }
  return pages;
}

uint64_t PageDemand::num_full_heads() const {
  uint64_t heads = 0;
  for (const LayerClass& layers : classes_) {
    if (layers.sliding_window == 0) heads += layers.num_heads;
  }
  return heads;
}

uint64_t PageDemand::HeldOfFirst(uint32_t num_pages, uint32_t num_rows) const {
  uint64_t pages = 0;
  for (const LayerClass& layers : classes_) {
    const uint32_t slid_out = PagesSlidOut(num_rows, layers.sliding_window);
    pages += layers.num_heads * (num_pages - std::min(num_pages, slid_out));
  }
  return pages;
}

uint64_t PageDemand::Entries(uint32_t num_rows) const {
  uint64_t entries = 0;
  for (const LayerClass& layers : classes_) {
    entries +=
        layers.num_heads *
        (layers.sliding_window == 0 ? num_rows : std::min(num_rows, layers.sliding_window - 1));
  }
  return entries;
}

}  // namespace kvec::coordinator::scheduler
