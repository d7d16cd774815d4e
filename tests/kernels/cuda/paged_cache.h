#ifndef KVEC_TESTS_KERNELS_CUDA_PAGED_CACHE_H_
#define KVEC_TESTS_KERNELS_CUDA_PAGED_CACHE_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "common/tensor/float_conversions.h"
#include "gtest/gtest.h"
#include "kernels/cuda/append_kv.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/flat_batch.h"
#include "kernels/cuda/prefill_attention.h"
#include "tests/kernels/cpu/paged_attention.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {

inline constexpr int kFirstPosition = 1000;  // of the first row in AppendRows

struct SequenceRun {
  int sequence;
  int num_rows;
  bool is_prompt;
};

// The pages of sequences in one layer of an arena in the device's memory, in random order, as after
// many requests.
class PagedCache {
 public:
  PagedCache(const HeadShape& shape, KvType type, int num_pages, cudaStream_t stream)
      : shape_(shape),
        type_(type),
        stream_(stream),
        pages_(KvArenaSpec{shape.head_dim, type, num_pages}.page_bytes() *
                   static_cast<size_t>(num_pages),
               stream),
        positions_(static_cast<size_t>(num_pages * kPageTokens), stream),
        free_(static_cast<size_t>(num_pages)) {
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(7));
  }

  int AddSequence() {
    tables_.emplace_back(static_cast<size_t>(shape_.num_kv_heads));
    entries_.emplace_back(static_cast<size_t>(shape_.num_kv_heads), 0);
    return static_cast<int>(tables_.size()) - 1;
  }

  // Makes room for `count` more entries in every head, or forgets so many.
  void Grow(int sequence, int count) {
    for (int head = 0; head < shape_.num_kv_heads; ++head) GrowHead(sequence, head, count);
  }
  void GrowHead(int sequence, int head, int count) {
    std::vector<int32_t>& pages = table(sequence, head);
    int& entries = entries_[static_cast<size_t>(sequence)][static_cast<size_t>(head)];
    entries += count;
    while (static_cast<int>(pages.size()) * kPageTokens < entries) {
      ASSERT_FALSE(free_.empty());
      pages.push_back(free_.back());
      free_.pop_back();
    }
  }

  std::vector<HeadPages> Heads(int sequence) const {
    std::vector<HeadPages> heads;
    for (size_t head = 0; head < static_cast<size_t>(shape_.num_kv_heads); ++head) {
      heads.push_back({tables_[static_cast<size_t>(sequence)][head].data(),
                       entries_[static_cast<size_t>(sequence)][head]});
    }
    return heads;
  }

  std::vector<int32_t>& table(int sequence, int head) {
    return tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)];
  }
  KvPages kv() const { return {pages_.data(), positions_.data(), shape_.head_dim, type_}; }
  const HeadShape& shape() const { return shape_; }
  cudaStream_t stream() const { return stream_; }

  // One of the numbers of an entry's key or value, as the device holds it.
  float Number(int sequence, int head, int entry, bool is_value, int i) const {
    if (snapshot_.empty()) snapshot_ = pages_.ToHost();
    const int32_t page = tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)]
                                [static_cast<size_t>(entry / kPageTokens)];
    const int row = (is_value ? kPageTokens : 0) + entry % kPageTokens;
    const size_t index = (static_cast<size_t>(page) * 2 * kPageTokens + static_cast<size_t>(row)) *
                             static_cast<size_t>(shape_.head_dim) +
                         static_cast<size_t>(i);
    if (type_ == KvType::kF32) return reinterpret_cast<const float*>(snapshot_.data())[index];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(snapshot_.data())[index];
    return type_ == KvType::kBF16 ? BFloat16ToFloat(bits) : HalfToFloat(bits);
  }
  int32_t Position(int sequence, int head, int entry) const {
    const int32_t page = tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)]
                                [static_cast<size_t>(entry / kPageTokens)];
    return positions_.ToHost()[static_cast<size_t>(page * kPageTokens + entry % kPageTokens)];
  }
  // What Number reads is read anew.
  void Changed() { snapshot_.clear(); }

 private:
  const HeadShape shape_;
  const KvType type_;
  const cudaStream_t stream_;
  DeviceArray<uint8_t> pages_;
  DeviceArray<int32_t> positions_;
  std::vector<int32_t> free_;
  std::vector<std::vector<std::vector<int32_t>>> tables_;  // [sequences][num_kv_heads]
  std::vector<std::vector<int>> entries_;
  mutable std::vector<uint8_t> snapshot_;
};

struct RunOptions {
  int sliding_window = 0;
  float scale = 0.125f;
  int workspace_rows = 1000;  // of decode attention, at once
};

// Attention of a whole sequence, all rows of qkv, in double precision, over keys and values as an
// arena of this type holds them.
inline Matrix ReferenceAttention(const Matrix& qkv, const HeadShape& shape, KvType type,
                                 int sliding_window, double scale) {
  Matrix stored = qkv;
  for (int row = 0; row < qkv.rows(); ++row) {
    for (int col = shape.num_heads * shape.head_dim; col < qkv.cols(); ++col) {
      stored.at(row, col) = cpu::RoundTo(type, qkv.at(row, col));
    }
  }
  return cpu::ReferenceAttention(stored, shape, sliding_window, scale);
}

// Rows of qkv, which belong to the runs one after another, stored in a cache.
class AppendedRows {
 public:
  AppendedRows(PagedCache& cache, const Matrix& qkv, const std::vector<SequenceRun>& runs)
      : cache_(cache),
        qkv_(qkv, cache.stream()),
        batch_(Flatten(cache, runs)),
        words_({batch_.words().begin(), batch_.words().end()}, cache.stream()) {
    std::vector<int32_t> positions(static_cast<size_t>(qkv.rows()));
    std::iota(positions.begin(), positions.end(), kFirstPosition);
    const DeviceArray<int32_t> device_positions(positions, cache.stream());
    EXPECT_EQ(AppendKv(cache.stream(), qkv_.tensor(), cache.shape(), device_positions.data(),
                       batch(), cache.kv()),
              cudaSuccess);
    cache.Changed();
  }

  // Of these rows.
  Matrix Attend(const RunOptions& options) {
    const HeadShape& shape = cache_.shape();
    const cudaStream_t stream = cache_.stream();
    DeviceMatrix out(Matrix(qkv_.tensor().rows, shape.num_heads * shape.head_dim), stream);
    const DeviceArray<float> workspace(DecodeWorkspaceFloats(shape, batch().max_decode_entries) *
                                           static_cast<size_t>(options.workspace_rows),
                                       stream);
    const AttentionArguments arguments{.qkv = qkv_.tensor(),
                                       .shape = shape,
                                       .sliding_window = options.sliding_window,
                                       .log2_scale = options.scale * 1.4426950408889634f,
                                       .kv = cache_.kv(),
                                       .batch = batch(),
                                       .out = out.tensor()};
    EXPECT_EQ(PrefillAttention(stream, arguments), cudaSuccess);
    EXPECT_EQ(DecodeAttention(stream, arguments, workspace.data(), workspace.size()), cudaSuccess);
    return out.ToHost();
  }

 private:
  static FlatBatch Flatten(PagedCache& cache, const std::vector<SequenceRun>& runs) {
    std::vector<std::vector<HeadPages>> heads;
    for (const SequenceRun& run : runs) {
      cache.Grow(run.sequence, run.num_rows);
      heads.push_back(cache.Heads(run.sequence));
    }
    std::vector<AttentionSequence> sequences;
    int row = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      sequences.push_back({row, runs[i].num_rows, runs[i].is_prompt, heads[i]});
      row += runs[i].num_rows;
    }
    return FlatBatch({.sequences = sequences});
  }
  PagedBatch batch() const { return batch_.View(words_.data()); }

  PagedCache& cache_;
  DeviceMatrix qkv_;
  const FlatBatch batch_;
  const DeviceArray<int32_t> words_;
};

inline void AppendRows(PagedCache& cache, const Matrix& qkv, const std::vector<SequenceRun>& runs) {
  AppendedRows(cache, qkv, runs);
}

// Appends the rows and attends with them.
inline Matrix RunAttention(PagedCache& cache, const Matrix& qkv,
                           const std::vector<SequenceRun>& runs, const RunOptions& options = {}) {
  return AppendedRows(cache, qkv, runs).Attend(options);
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_PAGED_CACHE_H_
