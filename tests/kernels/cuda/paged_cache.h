#ifndef KVEC_TESTS_KERNELS_CUDA_PAGED_CACHE_H_
#define KVEC_TESTS_KERNELS_CUDA_PAGED_CACHE_H_

#include <algorithm>
#include <cmath>
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

// The i-th number of H · x, where H has orthonormal Hadamard matrices on its diagonal, as large as
// a power of 2 that divides head_dim can be: what rotates keys, and turns them back.
template <typename Function>
double Rotated(int head_dim, int i, const Function& x) {
  const int size = head_dim & -head_dim;
  double sum = 0;
  for (int j = 0; j < size; ++j) {
    const int sign = __builtin_parity(static_cast<unsigned>(i % size & j)) ? -1 : 1;
    sum += sign * static_cast<double>(x(i / size * size + j));
  }
  return sum / std::sqrt(size);
}

// Of the GPU, as CudaDevice asks it.
inline bool HasWgmma() {
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  return properties.major == 9 && properties.minor == 0;
}

// The pages of sequences in one layer of an arena in the device's memory, in random order, as after
// many requests.
class PagedCache {
 public:
  // Prompts' attention takes wgmma if it may and the GPU has it.
  PagedCache(const HeadShape& shape, KvType type, int num_pages, cudaStream_t stream,
             bool may_use_wgmma = true)
      : shape_(shape),
        type_(type),
        stream_(stream),
        uses_wgmma_(may_use_wgmma && HasWgmma()),
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
  bool uses_wgmma() const { return uses_wgmma_; }
  cudaStream_t stream() const { return stream_; }

  // One of the numbers of an entry's key or value, as the device holds it: of int8 times its scale,
  // and of a key turned back.
  float Number(int sequence, int head, int entry, bool is_value, int i) const {
    if (type_ == KvType::kInt8) {
      const double sum =
          is_value ? Int8(sequence, head, entry, true, i) : Rotated(shape_.head_dim, i, [&](int j) {
            return Int8(sequence, head, entry, false, j);
          });
      return static_cast<float>(sum * Scale(sequence, head, entry, is_value));
    }
    const uint8_t* const numbers = NumbersOf(sequence, head, entry, is_value);
    if (type_ == KvType::kF32) return reinterpret_cast<const float*>(numbers)[i];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(numbers)[i];
    return type_ == KvType::kBF16 ? BFloat16ToFloat(bits) : HalfToFloat(bits);
  }
  // What int8 makes of it.
  int Int8(int sequence, int head, int entry, bool is_value, int i) const {
    return static_cast<int8_t>(NumbersOf(sequence, head, entry, is_value)[i]);
  }
  double Scale(int sequence, int head, int entry, bool is_value) const {
    const uint8_t* const scales = PageOf(sequence, head, entry) + 2 * kPageTokens * shape_.head_dim;
    return HalfToFloat(reinterpret_cast<const uint16_t*>(
        scales)[(is_value ? kPageTokens : 0) + entry % kPageTokens]);
  }
  int32_t Position(int sequence, int head, int entry) const {
    const int32_t page = tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)]
                                [static_cast<size_t>(entry / kPageTokens)];
    return positions_.ToHost()[static_cast<size_t>(page * kPageTokens + entry % kPageTokens)];
  }
  // What Number reads is read anew.
  void Changed() { snapshot_.clear(); }

 private:
  const uint8_t* PageOf(int sequence, int head, int entry) const {
    if (snapshot_.empty()) snapshot_ = pages_.ToHost();
    const int32_t page = tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)]
                                [static_cast<size_t>(entry / kPageTokens)];
    return snapshot_.data() +
           static_cast<size_t>(page) * KvArenaSpec{shape_.head_dim, type_, 1}.page_bytes();
  }
  // [head_dim], of the arena's type.
  const uint8_t* NumbersOf(int sequence, int head, int entry, bool is_value) const {
    const int row = (is_value ? kPageTokens : 0) + entry % kPageTokens;
    return PageOf(sequence, head, entry) +
           static_cast<size_t>(row * shape_.head_dim) * KvTypeBytes(type_);
  }

  const HeadShape shape_;
  const KvType type_;
  const cudaStream_t stream_;
  const bool uses_wgmma_;
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

// Angles that turn nothing.
inline Matrix NoAngles(int rows, int head_dim) {
  Matrix angles(rows, head_dim);
  for (int row = 0; row < rows; ++row) {
    for (int i = 0; i < head_dim / 2; ++i) angles.at(row, i) = 1;
  }
  return angles;
}

// Rows of qkv, which belong to the runs one after another, stored in a cache.
class AppendedRows {
 public:
  // Heads are turned by the rotation, if it has angles.
  AppendedRows(PagedCache& cache, const Matrix& qkv, const std::vector<SequenceRun>& runs,
               HeadRotation rotation = {})
      : cache_(cache),
        qkv_(qkv, cache.stream()),
        batch_(Flatten(cache, runs)),
        words_({batch_.words().begin(), batch_.words().end()}, cache.stream()) {
    std::vector<int32_t> positions(static_cast<size_t>(qkv.rows()));
    std::iota(positions.begin(), positions.end(), kFirstPosition);
    const DeviceArray<int32_t> device_positions(positions, cache.stream());
    DeviceMatrix no_angles(NoAngles(qkv.rows(), cache.shape().head_dim), cache.stream());
    if (rotation.angles.data == nullptr) rotation.angles = no_angles.tensor();
    EXPECT_EQ(RotateAndAppendKv(cache.stream(), qkv_.tensor(), cache.shape(), rotation,
                                device_positions.data(), batch(), cache.kv()),
              cudaSuccess);
    cache.Changed();
  }

  // qkv, as it is now.
  Matrix Heads() { return qkv_.ToHost(); }

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
                                       .use_wgmma = cache_.uses_wgmma(),
                                       .out = out.tensor()};
    EXPECT_EQ(PrefillAttention(stream, arguments), cudaSuccess);
    EXPECT_EQ(DecodeAttention(stream, arguments, ProductInput::Of(out.tensor()), workspace.data(),
                              workspace.size()),
              cudaSuccess);
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

// Rows of a sequence with keys and values as an arena in int8 holds them, which append_kv_test.cc
// looks at.
inline Matrix AsInt8(const Matrix& qkv, const HeadShape& shape) {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  Matrix stored = qkv;
  {
    PagedCache cache(shape, KvType::kInt8, shape.num_kv_heads * (qkv.rows() / kPageTokens + 1),
                     stream);
    AppendRows(cache, qkv, {{cache.AddSequence(), qkv.rows(), true}});
    for (int row = 0; row < qkv.rows(); ++row) {
      for (int head = 0; head < shape.num_kv_heads; ++head) {
        const int key = (shape.num_heads + head) * shape.head_dim;
        const int value = key + shape.num_kv_heads * shape.head_dim;
        for (int i = 0; i < shape.head_dim; ++i) {
          stored.at(row, key + i) = cache.Number(0, head, row, false, i);
          stored.at(row, value + i) = cache.Number(0, head, row, true, i);
        }
      }
    }
  }
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  return stored;
}

// Attention of a whole sequence, all rows of qkv, in double precision, over keys and values as an
// arena of this type holds them.
inline Matrix ReferenceAttention(const Matrix& qkv, const HeadShape& shape, KvType type,
                                 int sliding_window, double scale) {
  Matrix stored = type == KvType::kInt8 ? AsInt8(qkv, shape) : qkv;
  for (int row = 0; row < qkv.rows() && type != KvType::kInt8; ++row) {
    for (int col = shape.num_heads * shape.head_dim; col < qkv.cols(); ++col) {
      stored.at(row, col) = cpu::RoundTo(type, qkv.at(row, col));
    }
  }
  return cpu::ReferenceAttention(stored, shape, sliding_window, scale);
}

// Appends the rows and attends with them.
inline Matrix RunAttention(PagedCache& cache, const Matrix& qkv,
                           const std::vector<SequenceRun>& runs, const RunOptions& options = {}) {
  return AppendedRows(cache, qkv, runs).Attend(options);
}

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_PAGED_CACHE_H_
