#ifndef KVEC_KERNELS_WINDOW_SCORES_H_
#define KVEC_KERNELS_WINDOW_SCORES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/tensor.h"

namespace kvec::kernels {

// Asks how the last queries of a sequence attend to its cache in one layer: the probabilities that
// eviction scores are made of (KVEC.md). Query i of W sees the entries up to
// num_entries - W + i; what it does not see has probability 0.
struct WindowScoreRequest {
  // The queries after rotary embedding, a ring [num_rows, num_heads · head_dim]; query i of W lies in
  // row (first_query + i) % num_rows.
  Tensor queries;
  int first_query = 0;
  int num_queries = 0;  // W
  absl::Span<const HeadPages> heads;  // [num_kv_heads], all with the same number of entries
  int num_candidates = 0;             // entries 0 … num_candidates - 1 are reported
  float scale = 1.0f;                 // of q·k

  // Numbers of last queries, each at most W: for each the mean of their probabilities goes to
  // means[windows, num_heads, num_candidates].
  absl::Span<const int> windows;
  float* means = nullptr;

  // The mean over the last focus_window queries of the maximum over all query heads goes to
  // focus[num_candidates]; null: not wanted.
  int focus_window = 0;
  float* focus = nullptr;
};

// Moves the entries kept of one KV head to its leading places.
struct GatherRequest {
  HeadPages head;
  absl::Span<const int32_t> kept;  // entries, ascending
  // [ceil(kept / kPageTokens)] pages to write to: the head's own leading ones, or others where those
  // are shared.
  const int32_t* to_pages = nullptr;
};

}  // namespace kvec::kernels

#endif  // KVEC_KERNELS_WINDOW_SCORES_H_
