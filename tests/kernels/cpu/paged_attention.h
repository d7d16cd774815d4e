#ifndef KVEC_TESTS_KERNELS_CPU_PAGED_ATTENTION_H_
#define KVEC_TESTS_KERNELS_CPU_PAGED_ATTENTION_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "common/tensor/dequantize.h"
#include "gtest/gtest.h"
#include "kernels/cpu/append_kv.h"
#include "kernels/cpu/attention.h"
#include "kernels/cpu/cpu_kv_arena.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/kernels/cpu/random_matrix.h"

namespace kvec::kernels::cpu {

inline float RoundTo(KvType type, float value) {
  switch (type) {
    case KvType::kBF16:
      return BFloat16ToFloat(FloatToBFloat16(value));
    case KvType::kF16:
      return HalfToFloat(FloatToHalf(value));
    case KvType::kF32:
      return value;
    case KvType::kInt8:
      break;  // depends on the whole entry: see AsStored
  }
  return NAN;
}

// The pages of sequences in one layer of an arena, in random order, as after many requests.
class PagedCache {
 public:
  PagedCache(const HeadShape& shape, KvType type, int num_pages) : shape_(shape) {
    auto arena =
        CreateCpuKvArena({.head_dim = shape.head_dim, .type = type, .num_pages = num_pages});
    EXPECT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    free_.resize(static_cast<size_t>(num_pages));
    std::iota(free_.begin(), free_.end(), 0);
    std::shuffle(free_.begin(), free_.end(), std::mt19937(7));
    // What earlier requests left behind must not matter, be it no numbers.
    for (int32_t page = 0; page < num_pages; ++page) {
      std::fill_n(arena_->keys(page), arena_->spec().page_bytes(), uint8_t{0xFF});
    }
  }

  // Returns the new sequence's index.
  int AddSequence() {
    tables_.emplace_back(static_cast<size_t>(shape_.num_kv_heads));
    entries_.emplace_back(static_cast<size_t>(shape_.num_kv_heads), 0);
    return static_cast<int>(tables_.size()) - 1;
  }

  // Makes room for `count` more entries in every head, or in one.
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
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      heads.push_back({tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)].data(),
                       entries_[static_cast<size_t>(sequence)][static_cast<size_t>(head)]});
    }
    return heads;
  }

  std::vector<int32_t>& table(int sequence, int head) {
    return tables_[static_cast<size_t>(sequence)][static_cast<size_t>(head)];
  }
  CpuKvArena& arena() { return *arena_; }
  const HeadShape& shape() const { return shape_; }

 private:
  const HeadShape shape_;
  std::unique_ptr<CpuKvArena> arena_;
  std::vector<int32_t> free_;
  std::vector<std::vector<std::vector<int32_t>>> tables_;  // [sequences][num_kv_heads]
  std::vector<std::vector<int>> entries_;
};

// Appends rows of qkv to sequences of a cache and attends; returns the result.
struct SequenceRun {
  int sequence;
  int num_rows;
  bool is_prompt;
};

struct RunOptions {
  int sliding_window = 0;
  int num_threads = 1;
  float scale = 0.125f;
};

// qkv's rows belong to the runs one after another.
inline Matrix RunAttention(PagedCache& cache, Matrix& qkv, const std::vector<SequenceRun>& runs,
                           const RunOptions& options = {}) {
  ThreadPool pool(options.num_threads);
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
  std::vector<int32_t> positions(static_cast<size_t>(qkv.rows()));
  std::iota(positions.begin(), positions.end(), 1000);
  const AttentionBatch batch{sequences, options.sliding_window, options.scale};
  Matrix out(qkv.rows(), cache.shape().num_heads * cache.shape().head_dim);
  absl::Status status =
      AppendKv(pool, qkv.tensor(), cache.shape(), positions, batch, cache.arena());
  EXPECT_TRUE(status.ok()) << status;
  status = Attention(pool, qkv.tensor(), cache.shape(), batch, cache.arena(), out.tensor());
  EXPECT_TRUE(status.ok()) << status;
  return out;
}

// Rows [begin, end) as a matrix of their own.
inline Matrix RowsOf(const Matrix& matrix, int begin, int end) {
  Matrix rows(end - begin, matrix.cols());
  for (int row = begin; row < end; ++row) {
    for (int col = 0; col < matrix.cols(); ++col) rows.at(row - begin, col) = matrix.at(row, col);
  }
  return rows;
}

// Keys and values that an int8 arena holds, in float32; keys are turned back.
inline float Int8KeyAt(const CpuKvArena& arena, int32_t page, int token, int dim) {
  const int size = arena.spec().head_dim & -arena.spec().head_dim;  // of a Hadamard matrix
  const auto* numbers = reinterpret_cast<const int8_t*>(arena.keys(page));
  double sum = 0;
  for (int i = 0; i < size; ++i) {
    const int column = dim / size * size + i;
    const int sign = __builtin_parity(static_cast<unsigned>(dim % size & i)) ? -1 : 1;
    sum += sign * numbers[column / 2 * 2 * kPageTokens + 2 * token + column % 2];
  }
  return static_cast<float>(sum * HalfToFloat(arena.key_scales(page)[token]) / std::sqrt(size));
}
inline float Int8ValueAt(const CpuKvArena& arena, int32_t page, int token, int dim) {
  const auto* numbers = reinterpret_cast<const int8_t*>(arena.values(page));
  return numbers[token / 2 * 2 * arena.spec().head_dim + 2 * dim + token % 2] *
         HalfToFloat(arena.value_scales(page)[token]);
}

// qkv with its keys and values rounded as a sequence of the cache, whose rows they are, holds them.
inline Matrix AsStored(PagedCache& cache, int sequence, const Matrix& qkv) {
  const HeadShape& shape = cache.shape();
  const KvType type = cache.arena().spec().type;
  Matrix stored = qkv;
  for (int row = 0; row < qkv.rows(); ++row) {
    for (int head = 0; head < shape.num_kv_heads; ++head) {
      const int32_t page = cache.table(sequence, head)[static_cast<size_t>(row / kPageTokens)];
      const int token = row % kPageTokens;
      for (int dim = 0; dim < shape.head_dim; ++dim) {
        float& key = stored.at(row, (shape.num_heads + head) * shape.head_dim + dim);
        float& value =
            stored.at(row, (shape.num_heads + shape.num_kv_heads + head) * shape.head_dim + dim);
        if (type == KvType::kInt8) {
          key = Int8KeyAt(cache.arena(), page, token, dim);
          value = Int8ValueAt(cache.arena(), page, token, dim);
        } else {
          key = RoundTo(type, key);
          value = RoundTo(type, value);
        }
      }
    }
  }
  return stored;
}

// Attention of a whole sequence, all rows of qkv, in double precision.
inline Matrix ReferenceAttention(const Matrix& qkv, const HeadShape& shape, int sliding_window,
                                 double scale) {
  const int dim = shape.head_dim;
  Matrix out(qkv.rows(), shape.num_heads * dim);
  for (int row = 0; row < qkv.rows(); ++row) {
    for (int head = 0; head < shape.num_heads; ++head) {
      const int k = (shape.num_heads + shape.KvHeadOf(head)) * dim;
      const int v = k + shape.num_kv_heads * dim;
      const int first = sliding_window > 0 ? std::max(0, row + 1 - sliding_window) : 0;
      std::vector<double> weights;
      for (int entry = first; entry <= row; ++entry) {
        double score = 0;
        for (int i = 0; i < dim; ++i) {
          score += double{qkv.at(row, head * dim + i)} * qkv.at(entry, k + i);
        }
        weights.push_back(score * scale);
      }
      const double max = *std::max_element(weights.begin(), weights.end());
      double sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - max);
      for (int i = 0; i < dim; ++i) {
        double value = 0;
        for (int entry = first; entry <= row; ++entry) {
          value += weights[static_cast<size_t>(entry - first)] * qkv.at(entry, v + i);
        }
        out.at(row, head * dim + i) = static_cast<float>(value / sum);
      }
    }
  }
  return out;
}

inline float LargestDifference(const Matrix& a, const Matrix& b) {
  float largest = 0;
  for (int row = 0; row < a.rows(); ++row) {
    for (int col = 0; col < a.cols(); ++col) {
      const float difference = std::fabs(a.at(row, col) - b.at(row, col));
      if (!(difference <= largest)) largest = difference;  // NaN stays
    }
  }
  return largest;
}

}  // namespace kvec::kernels::cpu

#endif  // KVEC_TESTS_KERNELS_CPU_PAGED_ATTENTION_H_
