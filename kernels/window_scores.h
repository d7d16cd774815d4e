#ifndef KVEC_KERNELS_WINDOW_SCORES_H_
#define KVEC_KERNELS_WINDOW_SCORES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kernels/attention_batch.h"
#include "kernels/tensor.h"

namespace kvec::kernels {

// Asks how the last queries of a sequence attend to its cache in one layer: the probabilities that
// eviction scores are made of (KVEC.md). The KV heads may hold different entries, and different
// numbers of them.
struct WindowScoreRequest {
  // The queries after rotary embedding, a ring [num_rows, num_heads · head_dim]; query i of W lies in
  // row (first_query + i) % num_rows.
  Tensor queries;
  int first_query = 0;
  int num_queries = 0;  // W
  absl::Span<const HeadPages> heads;  // [num_kv_heads]
  // [num_kv_heads, num_queries]: how many leading entries of a head each query sees. To what it does
  // not see it gives probability 0.
  absl::Span<const int32_t> num_visible;
  // [num_kv_heads]: how many leading entries of each head are reported, at least 1. In rows of
  // `stride`; what lies behind a head's last candidate is not written.
  absl::Span<const int32_t> num_candidates;
  int stride = 0;
  float scale = 1.0f;  // of q·k

  // Numbers of last queries, each at most W: for each the mean of their probabilities goes to
  // means[windows, num_heads, stride].
  absl::Span<const int> windows;
  float* means = nullptr;

  // Of each of the last focus_window queries, oldest first, the maximum over the KV head's query heads
  // goes to maxima[num_kv_heads, focus_window, stride]; null: not wanted.
  int focus_window = 0;
  float* maxima = nullptr;
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
