// Decode attention over per-head page tables. Of our own: no library lets each KV head hold a set
// of tokens of its own and cuts at entries that do not move with the batch (FlashInfer's decode
// plans its splits by the batch).
//
// A block reads one split of one KV head once, for all query heads of the group. Its keys and
// values come in 16-byte loads; the arithmetic is float32 on the ordinary cores, which at the 8
// flop per byte of a group of 8 is not what a decode step waits for.

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/hadamard.h"
#include "kernels/cuda/kv_access.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/warp_math.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpThreads;
constexpr int kSplitEntries = kDecodeSplitEntries;
constexpr int kKeyLanes = 8;  // share a key: with 128 threads a pass is one page
static_assert(kThreads / kKeyLanes == kPageTokens);

// Numbers of a value that a thread adds up at once, for each query head: 128 sums fill its
// registers.
template <typename Stored, int kGroup>
constexpr int kValueSize = kVectorSize<Stored>* kGroup <= 128 ? kVectorSize<Stored> : 128 / kGroup;

// A part of a row's softmax over one split, for one query head, behind its output.
struct SplitState {
  float max;  // to base 2
  float sum;
};

// Floats of one split of one query head in the workspace: output, then SplitState.
__host__ __device__ int SplitFloats(int head_dim) { return head_dim + 2; }

// The entries of a split that a row sees.
struct Range {
  int begin;
  int end;
};

__device__ Range VisibleRange(int split, int num_visible, int sliding_window) {
  int begin = split * kSplitEntries;
  int end = begin + kSplitEntries;
  const int first = sliding_window > 0 ? num_visible - sliding_window : 0;
  if (begin < first) begin = first;
  if (end > num_visible) end = num_visible;
  return {begin, end};
}

// A row, one of its KV heads and a split of its entries: a block's work.
struct SplitTask {
  BatchRow row;
  int kv_head;
  QueryGroup group;
  const int32_t* pages;
  Range range;
  int split_begin;  // its first entry, visible or not

  __device__ SplitTask(const AttentionArguments& a, int first_row, int split)
      : row(a.batch.decode_rows[first_row + static_cast<int>(blockIdx.x)]),
        kv_head(static_cast<int>(blockIdx.y)),
        group(QueryGroupOf(a.shape, kv_head)) {
    const HeadTable table = a.batch.tables[row.sequence * a.shape.num_kv_heads + kv_head];
    pages = a.batch.page_ids + table.first_page;
    range = VisibleRange(split, table.num_entries - row.num_after, a.sliding_window);
    split_begin = split * kSplitEntries;
  }
};

// scores[kGroup][kSplitEntries] = queries[kGroup][head_dim] · key of every visible entry.
template <typename Stored, int kGroup>
__device__ void ScoreKeys(const SplitTask& task, const Entries<Stored>& entries, int head_dim,
                          const float* queries, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kKeyLanes;
  const int token = static_cast<int>(threadIdx.x) / kKeyLanes;
  for (int page = task.range.begin / kPageTokens; page * kPageTokens < task.range.end; ++page) {
    const int entry = page * kPageTokens + token;
    const bool visible = entry >= task.range.begin && entry < task.range.end;
    float sums[kGroup] = {};
    float scale = 1.0f;
    if (visible) {
      scale = entries.KeyScale(task.pages, entry);
      const Stored* const key = entries.Key(task.pages, entry);
      for (int i = lane * kVectorSize<Stored>; i < head_dim; i += kKeyLanes * kVectorSize<Stored>) {
        float k[kVectorSize<Stored>];
        LoadVector(key + i, k);
#pragma unroll
        for (int head = 0; head < kGroup; ++head) {
#pragma unroll
          for (int j = 0; j < kVectorSize<Stored>; ++j) {
            sums[head] += queries[head * head_dim + i + j] * k[j];
          }
        }
      }
    }
#pragma unroll
    for (int head = 0; head < kGroup; ++head) {
      const float score = WarpSum<kKeyLanes>(sums[head]);
      if (lane == 0 && visible) {
        scores[head * kSplitEntries + entry - task.split_begin] = score * scale;
      }
    }
  }
}

// Turns a row of scores into weights 2^(score - max), by one warp.
__device__ SplitState SoftmaxOfSplit(const SplitTask& task, float* scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int begin = task.range.begin - task.split_begin;
  const int end = task.range.end - task.split_begin;
  float max = kNegativeInfinity;
  for (int i = begin + lane; i < end; i += kWarpThreads) max = fmaxf(max, scores[i]);
  max = WarpMax(max);
  float sum = 0;
  for (int i = begin + lane; i < end; i += kWarpThreads) {
    scores[i] = exp2f(scores[i] - max);
    sum += scores[i];
  }
  return {max, WarpSum(sum)};
}

// outputs[head · head_stride + i] = Σ weight · value[i]. Each of the block's token lanes takes
// every so many-th entry; `partial` [kThreads · kValueSize] adds them up.
template <typename Stored, int kGroup>
__device__ void SumValues(const SplitTask& task, const Entries<Stored>& entries, int head_dim,
                          const float* weights, float* partial, float* outputs, int head_stride) {
  constexpr int kSize = kValueSize<Stored, kGroup>;
  const int num_vectors = head_dim / kSize;
  const int num_token_lanes = kThreads / num_vectors;
  const int token_lane = static_cast<int>(threadIdx.x) / num_vectors;
  const int col = static_cast<int>(threadIdx.x) % num_vectors * kSize;
  float sums[kGroup][kSize] = {};
  if (token_lane < num_token_lanes) {
    for (int entry = task.range.begin + token_lane; entry < task.range.end;
         entry += num_token_lanes) {
      float v[kSize];
      LoadVector(entries.Value(task.pages, entry) + col, v);
      const float scale = entries.ValueScale(task.pages, entry);
#pragma unroll
      for (int head = 0; head < kGroup; ++head) {
        const float weight = weights[head * kSplitEntries + entry - task.split_begin] * scale;
#pragma unroll
        for (int j = 0; j < kSize; ++j) sums[head][j] += weight * v[j];
      }
    }
  }
#pragma unroll
  for (int head = 0; head < kGroup; ++head) {
    if (token_lane < num_token_lanes) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        partial[token_lane * head_dim + col + j] = sums[head][j];
      }
    }
    __syncthreads();
    if (head < task.group.count) {
      for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
        float sum = 0;
        for (int lane = 0; lane < num_token_lanes; ++lane) sum += partial[lane * head_dim + i];
        outputs[head * head_stride + i] = sum;
      }
    }
    __syncthreads();
  }
}

// workspace[rows, num_heads, splits, SplitFloats]. Grid [rows, num_kv_heads, splits].
template <typename Stored, int kGroup>
__global__ void __launch_bounds__(kThreads)
    DecodeSplitKernel(AttentionArguments a, int first_row, float* workspace) {
  const int split = static_cast<int>(blockIdx.z);
  const SplitTask task(a, first_row, split);
  if (task.row.row < 0 || task.range.begin >= task.range.end) return;
  const int head_dim = a.shape.head_dim;
  KVEC_DYNAMIC_SHARED_ARRAY(float, shared);
  float* const queries = shared;                       // [kGroup][head_dim]
  float* const weights = queries + kGroup * head_dim;  // [kGroup][kSplitEntries]
  float* const partial = weights + kGroup * kSplitEntries;

  const float* const q = a.qkv.data + task.row.row * a.qkv.stride + task.group.first * head_dim;
  for (int i = static_cast<int>(threadIdx.x); i < kGroup * head_dim; i += kThreads) {
    queries[i] = i < task.group.count * head_dim ? q[i] * a.log2_scale : 0.0f;
  }
  __syncthreads();
  if constexpr (Entries<Stored>::kScaled) {
    RotateRows<kThreads>(queries, kGroup, head_dim, head_dim);
  }
  const Entries<Stored> entries(a.kv);
  ScoreKeys<Stored, kGroup>(task, entries, head_dim, queries, weights);
  __syncthreads();

  const int split_floats = SplitFloats(head_dim);
  const int head_stride = static_cast<int>(gridDim.z) * split_floats;
  float* const outputs = workspace +
                         (static_cast<size_t>(blockIdx.x) * static_cast<size_t>(a.shape.num_heads) +
                          static_cast<size_t>(task.group.first)) *
                             static_cast<size_t>(head_stride) +
                         split * split_floats;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  for (int head = warp; head < kGroup; head += kWarps) {
    const SplitState state = SoftmaxOfSplit(task, weights + head * kSplitEntries);
    if (threadIdx.x % kWarpThreads == 0 && head < task.group.count) {
      float* const to = outputs + head * head_stride + head_dim;
      to[0] = state.max;
      to[1] = state.sum;
    }
  }
  __syncthreads();
  SumValues<Stored, kGroup>(task, entries, head_dim, weights, partial, outputs, head_stride);
}

// Grid [rows, num_heads].
template <typename Number>
__global__ void __launch_bounds__(kThreads)
    MergeSplitsKernel(AttentionArguments a, int first_row, int num_splits, const float* workspace,
                      ProductInput out) {
  const BatchRow row = a.batch.decode_rows[first_row + static_cast<int>(blockIdx.x)];
  if (row.row < 0) return;
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = (head + a.shape.group_offset) / a.shape.group_size;
  const HeadTable table = a.batch.tables[row.sequence * a.shape.num_kv_heads + kv_head];
  const int num_visible = table.num_entries - row.num_after;
  const int head_dim = a.shape.head_dim;
  const float* const splits =
      workspace + (static_cast<size_t>(blockIdx.x) * static_cast<size_t>(a.shape.num_heads) +
                   static_cast<size_t>(head)) *
                      static_cast<size_t>(num_splits * SplitFloats(head_dim));
  for (int i = static_cast<int>(threadIdx.x); i < head_dim; i += kThreads) {
    float max = kNegativeInfinity;
    float sum = 0;
    float value = 0;
    for (int split = 0; split < num_splits; ++split) {
      const Range range = VisibleRange(split, num_visible, a.sliding_window);
      if (range.begin >= range.end) continue;
      const float* const from = splits + split * SplitFloats(head_dim);
      const float new_max = fmaxf(max, from[head_dim]);
      const float old_part = exp2f(max - new_max);  // 0 at first: max is -inf
      const float new_part = exp2f(from[head_dim] - new_max);
      sum = sum * old_part + from[head_dim + 1] * new_part;
      value = value * old_part + from[i] * new_part;
      max = new_max;
    }
    RowOf<Number>(out, row.row)[head * head_dim + i] = FromFloat<Number>(value / sum);
  }
}

template <typename Stored, int kGroup>
cudaError_t LaunchSplits(cudaStream_t stream, const AttentionArguments& a, int first_row,
                         int num_rows, int num_splits, float* workspace) {
  const dim3 grid(static_cast<unsigned>(num_rows), static_cast<unsigned>(a.shape.num_kv_heads),
                  static_cast<unsigned>(num_splits));
  const size_t shared_floats = static_cast<size_t>(kGroup * (a.shape.head_dim + kSplitEntries) +
                                                   kThreads * kValueSize<Stored, kGroup>);
  return Launch(stream, {grid, kThreads, shared_floats * sizeof(float)},
                DecodeSplitKernel<Stored, kGroup>, a, first_row, workspace);
}

template <typename Stored>
cudaError_t LaunchSplitsOfGroup(cudaStream_t stream, const AttentionArguments& a, int first_row,
                                int num_rows, int num_splits, float* workspace) {
  const int group = a.shape.group_size;
  const auto launch = group <= 1   ? LaunchSplits<Stored, 1>
                      : group <= 2 ? LaunchSplits<Stored, 2>
                      : group <= 4 ? LaunchSplits<Stored, 4>
                      : group <= 8 ? LaunchSplits<Stored, 8>
                                   : LaunchSplits<Stored, 16>;
  return launch(stream, a, first_row, num_rows, num_splits, workspace);
}

int NumSplits(int num_entries) { return DivideUp(num_entries, kSplitEntries); }

}  // namespace

size_t DecodeWorkspaceFloats(const HeadShape& shape, int num_entries) {
  return static_cast<size_t>(shape.num_heads) * static_cast<size_t>(NumSplits(num_entries)) *
         static_cast<size_t>(SplitFloats(shape.head_dim));
}

cudaError_t DecodeAttention(cudaStream_t stream, const AttentionArguments& arguments,
                            ProductInput out, float* workspace, size_t workspace_floats) {
  const int total_rows = arguments.batch.num_decode_rows;
  if (total_rows == 0) return cudaSuccess;
  const int num_splits = NumSplits(arguments.batch.max_decode_entries);
  const size_t rows_at_once =
      workspace_floats / DecodeWorkspaceFloats(arguments.shape, arguments.batch.max_decode_entries);
  if (rows_at_once == 0) return cudaErrorInvalidValue;
  int num_rows = 0;
  for (int first_row = 0; first_row < total_rows; first_row += num_rows) {
    num_rows =
        static_cast<int>(std::min(rows_at_once, static_cast<size_t>(total_rows - first_row)));
    cudaError_t error = WithStored(arguments.kv.type, [&](auto stored) {
      return LaunchSplitsOfGroup<decltype(stored)>(stream, arguments, first_row, num_rows,
                                                   num_splits, workspace);
    });
    if (error != cudaSuccess) return error;
    const dim3 grid(static_cast<unsigned>(num_rows),
                    static_cast<unsigned>(arguments.shape.num_heads));
    error = WithNumber(out.type, [&](auto number) {
      return Launch(stream, {grid, kThreads}, MergeSplitsKernel<decltype(number)>, arguments,
                    first_row, num_splits, workspace, out);
    });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace kvec::kernels::cuda
