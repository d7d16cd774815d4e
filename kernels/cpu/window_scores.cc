#include "kernels/cpu/window_scores.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/attention_checks.h"
#include "kernels/cpu/scratch_buffer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/window_scores.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/key_panels-inl.h"
#include "kernels/cpu/panel_product-inl.h"
#include "kernels/cpu/softmax_row-inl.h"

#ifndef KVEC_KERNELS_CPU_WINDOW_SCORES_ONCE_
#define KVEC_KERNELS_CPU_WINDOW_SCORES_ONCE_
namespace kvec::kernels::cpu {

// Keys that are scored at a time, a multiple of every instruction set's panel.
constexpr int kWindowTileKeys = 64;
// Keys that a thread takes at a time.
constexpr int kWindowBlockKeys = 512;

// Maximum and sum of a softmax to base 2 over some of the entries.
struct WindowSoftmax {
  float max;
  float sum;
};

struct WindowInputs {
  HeadShape shape;
  const WindowScoreRequest* request;
  const CpuKvArena* arena;

  int NumEntries(int kv_head) const { return request->heads[kv_head].num_entries; }
  int NumBlocks(int kv_head) const {
    return (NumEntries(kv_head) + kWindowBlockKeys - 1) / kWindowBlockKeys;
  }
  // Rows of a KV head: its query heads, each with its queries from oldest to newest.
  int NumRows(int kv_head) const {
    return QueryGroupOf(shape, kv_head).count * request->num_queries;
  }
  int NumVisible(int kv_head, int query) const {
    return request->num_visible[static_cast<size_t>(kv_head) * request->num_queries + query];
  }
};

}  // namespace kvec::kernels::cpu
#endif  // KVEC_KERNELS_CPU_WINDOW_SCORES_ONCE_

HWY_BEFORE_NAMESPACE();
namespace kvec::kernels::cpu {
namespace HWY_NAMESPACE {

// Scores of a KV head's window rows against tiles of its keys.
class WindowTile {
 public:
  WindowTile(const WindowInputs& inputs, int kv_head, ScratchBuffer& scratch)
      : inputs_(inputs),
        kv_head_(kv_head),
        head_dim_(static_cast<size_t>(inputs.shape.head_dim)),
        num_rows_(inputs.NumRows(kv_head)),
        padded_rows_((static_cast<size_t>(num_rows_) + kPanelRows - 1) / kPanelRows * kPanelRows) {
    queries_ =
        scratch.Reserve(padded_rows_ * (head_dim_ + kWindowTileKeys) + head_dim_ * kWindowTileKeys);
    scores_ = queries_ + padded_rows_ * head_dim_;
    keys_ = scores_ + padded_rows_ * kWindowTileKeys;
    LoadQueries();
  }

  int num_rows() const { return num_rows_; }
  float* scores(int row) { return scores_ + row * kWindowTileKeys; }

  // Scores entries [begin, begin + kWindowTileKeys), to base 2; those beyond the last are not
  // defined.
  HWY_INLINE void Score(int begin) {
    LoadKeys(begin);
    const size_t panel_keys = KeyPanelKeys();
    for (size_t key = 0; key < kWindowTileKeys; key += panel_keys) {
      for (size_t row = 0; row < padded_rows_; row += kPanelRows) {
        MultiplyPanel<kPanelVecs>({.a = queries_ + row * head_dim_,
                                   .a_stride = head_dim_,
                                   .b = keys_ + key * head_dim_,
                                   .depth = head_dim_,
                                   .factors = nullptr,
                                   .c = scores_ + row * kWindowTileKeys + key,
                                   .c_stride = kWindowTileKeys});
      }
    }
  }

 private:
  HWY_INLINE void LoadQueries() {
    constexpr float kLog2E = 1.4426950408889634f;
    const WindowScoreRequest& request = *inputs_.request;
    const QueryGroup group = QueryGroupOf(inputs_.shape, kv_head_);
    float* to = queries_;
    for (int head = group.first; head < group.first + group.count; ++head) {
      for (int query = 0; query < request.num_queries; ++query) {
        const int row = (request.first_query + query) % request.queries.rows;
        const float* from = request.queries.data + row * request.queries.stride + head * head_dim_;
        ScaleQuery(*inputs_.arena, from, request.scale * kLog2E, to);
        to += head_dim_;
      }
    }
    std::fill(to, queries_ + padded_rows_ * head_dim_, 0.0f);
  }

  // Widens a tile's keys into panels of [head_dim][keys of the panel].
  HWY_INLINE void LoadKeys(int begin) {
    const int end = std::min(begin + kWindowTileKeys, inputs_.NumEntries(kv_head_));
    const HeadPages& head = inputs_.request->heads[kv_head_];
    for (int entry = begin; entry < end; entry += kPageTokens) {
      WidenKeys(*inputs_.arena, head.pages[entry / kPageTokens],
                static_cast<size_t>(entry - begin), keys_);
    }
  }

  const WindowInputs& inputs_;
  const int kv_head_;
  const size_t head_dim_;
  const int num_rows_;
  const size_t padded_rows_;
  float* queries_;  // [padded_rows, head_dim], times the scale
  float* scores_;   // [padded_rows, kWindowTileKeys]
  float* keys_;
};

// Maximum and sum of every row over the entries of a block, [num_rows].
void RunWindowSoftmax(const WindowInputs& inputs, int kv_head, int block, WindowSoftmax* states) {
  static thread_local ScratchBuffer scratch;
  WindowTile tile(inputs, kv_head, scratch);
  std::vector<SoftmaxState> rows(static_cast<size_t>(tile.num_rows()));
  const int block_begin = block * kWindowBlockKeys;
  const int block_end = std::min(block_begin + kWindowBlockKeys, inputs.NumEntries(kv_head));
  for (int begin = block_begin; begin < block_end; begin += kWindowTileKeys) {
    tile.Score(begin);
    for (int row = 0; row < tile.num_rows(); ++row) {
      const int visible = inputs.NumVisible(kv_head, row % inputs.request->num_queries) - begin;
      if (visible <= 0) continue;
      SoftmaxRow(tile.scores(row), kWindowTileKeys, 0,
                 static_cast<size_t>(std::min(visible, kWindowTileKeys)),
                 rows[static_cast<size_t>(row)]);
    }
  }
  for (int row = 0; row < tile.num_rows(); ++row) {
    const SoftmaxState& state = rows[static_cast<size_t>(row)];
    states[row] = {state.max, state.sum};
  }
}

// Adds a row of probabilities to the means, and raises the maxima by it.
class WindowReducer {
 public:
  WindowReducer(const WindowInputs& inputs, int kv_head, int begin, int count)
      : request_(*inputs.request),
        num_heads_(static_cast<size_t>(inputs.shape.num_heads)),
        kv_head_(static_cast<size_t>(kv_head)),
        begin_(static_cast<size_t>(begin)),
        count_(static_cast<size_t>(count)) {
    for (int query = 0; query < FocusWindow(); ++query) std::fill_n(Maximum(query), count_, 0.0f);
  }

  HWY_INLINE void Add(int head, int query, const float* probabilities) {
    const int from_last = request_.num_queries - query;  // 1: the last
    for (size_t window = 0; window < request_.windows.size(); ++window) {
      if (from_last > request_.windows[window]) continue;
      float* to = Mean(window, head);
      const bool is_first = from_last == request_.windows[window];
      for (size_t i = 0; i < count_; ++i) {
        to[i] = is_first ? probabilities[i] : to[i] + probabilities[i];
      }
      if (from_last > 1) continue;
      const float size = static_cast<float>(request_.windows[window]);
      for (size_t i = 0; i < count_; ++i) to[i] /= size;
    }
    if (from_last > FocusWindow()) return;
    float* to = Maximum(FocusWindow() - from_last);
    for (size_t i = 0; i < count_; ++i) to[i] = std::max(to[i], probabilities[i]);
  }

 private:
  int FocusWindow() const { return request_.maxima == nullptr ? 0 : request_.focus_window; }
  float* Mean(size_t window, int head) const {
    return request_.means + (window * num_heads_ + static_cast<size_t>(head)) * Stride() + begin_;
  }
  float* Maximum(int query) const {
    const size_t row = kv_head_ * static_cast<size_t>(request_.focus_window) + query;
    return request_.maxima + row * Stride() + begin_;
  }
  size_t Stride() const { return static_cast<size_t>(request_.stride); }

  const WindowScoreRequest& request_;
  const size_t num_heads_;
  const size_t kv_head_;
  const size_t begin_;  // of the candidates
  const size_t count_;
};

// Reduces the probabilities of one tile of a KV head's candidates over its query heads. states:
// [num_heads, num_queries].
void ReduceWindowTile(const WindowInputs& inputs, int kv_head, int begin,
                      const WindowSoftmax* states) {
  static thread_local ScratchBuffer scratch;
  const hn::ScalableTag<float> d;
  const WindowScoreRequest& request = *inputs.request;
  WindowReducer reducer(inputs, kv_head, begin,
                        std::min(kWindowTileKeys, request.num_candidates[kv_head] - begin));
  WindowTile tile(inputs, kv_head, scratch);
  tile.Score(begin);
  const QueryGroup group = QueryGroupOf(inputs.shape, kv_head);
  for (int row = 0; row < tile.num_rows(); ++row) {
    const int head = group.first + row / request.num_queries;
    const int query = row % request.num_queries;
    const WindowSoftmax& state = states[head * request.num_queries + query];
    float* scores = tile.scores(row);
    const int visible = std::clamp(inputs.NumVisible(kv_head, query) - begin, 0, kWindowTileKeys);
    const auto max = hn::Set(d, state.max);
    const auto inverse = hn::Set(d, 1.0f / state.sum);
    for (size_t i = 0; i < kWindowTileKeys; i += hn::Lanes(d)) {
      const auto weight = Exp2(d, hn::Sub(hn::Load(d, scores + i), max));
      hn::Store(hn::Mul(weight, inverse), d, scores + i);
    }
    std::fill(scores + visible, scores + kWindowTileKeys, 0.0f);
    reducer.Add(head, query, scores);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvec::kernels::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvec::kernels::cpu {
namespace {

HWY_EXPORT(RunWindowSoftmax);
HWY_EXPORT(ReduceWindowTile);

// Whether the numbers of one KV head lie within its entries and the stride.
bool HeadFits(const WindowScoreRequest& request, int kv_head) {
  const int num_entries = request.heads[kv_head].num_entries;
  const int num_candidates = request.num_candidates[kv_head];
  const auto visible = request.num_visible.subspan(
      static_cast<size_t>(kv_head) * request.num_queries, request.num_queries);
  return num_candidates >= 1 && num_candidates <= std::min(num_entries, request.stride) &&
         std::all_of(visible.begin(), visible.end(),
                     [&](int32_t count) { return count >= 0 && count <= num_entries; });
}

absl::Status CheckRequest(const HeadShape& shape, const WindowScoreRequest& request) {
  const size_t num_kv_heads = static_cast<size_t>(shape.num_kv_heads);
  if (request.heads.size() != num_kv_heads || request.num_candidates.size() != num_kv_heads) {
    return absl::InternalError(
        absl::StrCat("window scores: ", request.heads.size(), " KV heads and candidates of ",
                     request.num_candidates.size(), ", not ", num_kv_heads));
  }
  const int max_window = request.windows.empty()
                             ? 0
                             : *std::max_element(request.windows.begin(), request.windows.end());
  if (request.num_queries < 1 || request.num_queries > request.queries.rows ||
      request.num_visible.size() != num_kv_heads * request.num_queries ||
      std::max(max_window, request.focus_window) > request.num_queries) {
    return absl::InternalError(absl::StrCat(
        "window scores: ", request.num_queries, " queries of ", request.queries.rows,
        " rows, windows up to ", max_window, ", num_visible of ", request.num_visible.size()));
  }
  for (int kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
    if (HeadFits(request, kv_head)) continue;
    return absl::InternalError(absl::StrCat(
        "window scores: ", request.num_candidates[kv_head], " candidates in rows of ",
        request.stride, ", KV head ", kv_head, " has ", request.heads[kv_head].num_entries,
        " entries; or a query sees more"));
  }
  return absl::OkStatus();
}

// Over all entries, [num_heads, num_queries]: partial results merged in ascending order.
std::vector<WindowSoftmax> SoftmaxOfRows(ThreadPool& pool, const WindowInputs& inputs) {
  int num_blocks = 0;
  for (int kv_head = 0; kv_head < inputs.shape.num_kv_heads; ++kv_head) {
    num_blocks = std::max(num_blocks, inputs.NumBlocks(kv_head));
  }
  const int num_queries = inputs.request->num_queries;
  const size_t num_rows = static_cast<size_t>(inputs.shape.num_heads) * num_queries;
  std::vector<WindowSoftmax> partial(num_rows * static_cast<size_t>(num_blocks));
  pool.ParallelFor(num_blocks * inputs.shape.num_kv_heads, [&](int task) {
    const int kv_head = task / num_blocks;
    const int block = task % num_blocks;
    if (block >= inputs.NumBlocks(kv_head)) return;
    const int first_row = QueryGroupOf(inputs.shape, kv_head).first * num_queries;
    HWY_DYNAMIC_DISPATCH(RunWindowSoftmax)
    (inputs, kv_head, block, partial.data() + static_cast<size_t>(block) * num_rows + first_row);
  });
  std::vector<WindowSoftmax> merged(partial.begin(), partial.begin() + num_rows);
  for (int block = 1; block < num_blocks; ++block) {
    for (size_t row = 0; row < num_rows; ++row) {
      const WindowSoftmax& next = partial[static_cast<size_t>(block) * num_rows + row];
      if (next.sum == 0) continue;  // the row sees nothing of the block
      WindowSoftmax& state = merged[row];
      const float max = std::max(state.max, next.max);
      state.sum = state.sum * std::exp2(state.max - max) + next.sum * std::exp2(next.max - max);
      state.max = max;
    }
  }
  return merged;
}

}  // namespace

absl::Status WindowScores(ThreadPool& pool, const HeadShape& shape,
                          const WindowScoreRequest& request, const CpuKvArena& arena) {
  if (absl::Status status = CheckRequest(shape, request); !status.ok()) return status;
  const WindowInputs inputs{shape, &request, &arena};
  const std::vector<WindowSoftmax> states = SoftmaxOfRows(pool, inputs);
  const int num_tiles = (request.stride + kWindowTileKeys - 1) / kWindowTileKeys;
  pool.ParallelFor(num_tiles * shape.num_kv_heads, [&](int task) {
    const int kv_head = task / num_tiles;
    const int begin = task % num_tiles * kWindowTileKeys;
    if (begin >= request.num_candidates[kv_head]) return;
    HWY_DYNAMIC_DISPATCH(ReduceWindowTile)(inputs, kv_head, begin, states.data());
  });
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cpu
#endif  // HWY_ONCE
