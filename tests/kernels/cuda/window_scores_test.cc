#include "kernels/cuda/window_scores.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

constexpr float kScale = 0.3f;
constexpr float kUnwritten = -7.0f;

struct ScoreCase {
  HeadShape shape;
  KvType type;
};

constexpr ScoreCase kShapes[] = {
    {{.num_heads = 3, .num_kv_heads = 1, .head_dim = 64, .group_size = 3}, KvType::kBF16},
    {{.num_heads = 2, .num_kv_heads = 2, .head_dim = 80, .group_size = 1}, KvType::kF16},
    {{.num_heads = 8, .num_kv_heads = 2, .head_dim = 128, .group_size = 4}, KvType::kF32},
    // The second rank of 9 heads in groups of 3, cut 5 to 4.
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 3, .group_offset = 2},
     KvType::kBF16},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 80, .group_size = 2}, KvType::kInt8},
    {{.num_heads = 3, .num_kv_heads = 1, .head_dim = 128, .group_size = 3}, KvType::kInt8},
    {{.num_heads = 7, .num_kv_heads = 1, .head_dim = 72, .group_size = 7}, KvType::kBF16},
    {{.num_heads = 2, .num_kv_heads = 1, .head_dim = 256, .group_size = 2}, KvType::kF32},
};

// Heads that hold different numbers of entries, and a ring of queries that begins in its middle.
class WindowScoresFixture {
 public:
  WindowScoresFixture(const ScoreCase& c, int num_entries, int num_queries, cudaStream_t stream)
      : shape_(c.shape),
        stream_(stream),
        cache_(c.shape, c.type, c.shape.num_kv_heads * (num_entries / kPageTokens + 1), stream),
        ring_(Matrix::Random(num_queries + 3, c.shape.num_heads * c.shape.head_dim, 2)),
        num_queries_(num_queries) {
    AppendRows(cache_, Matrix::Random(num_entries, c.shape.qkv_cols(), 1),
               {{cache_.AddSequence(), num_entries, true}});
    for (int head = 0; head < c.shape.num_kv_heads; ++head) {
      entries_.push_back(num_entries - 5 * head);
      cache_.GrowHead(0, head, -5 * head);
      candidates_.push_back(std::max(1, entries_.back() - num_queries));
      for (int query = 0; query < num_queries; ++query) {
        visible_.push_back(entries_.back() - num_queries + query + 1);
      }
    }
  }

  void RunAndCheck(const std::vector<int32_t>& windows, int focus_window) {
    const std::vector<HeadPages> heads = cache_.Heads(0);
    const AttentionSequence sequence{.heads = heads};
    const FlatBatch batch({.sequences = absl::MakeConstSpan(&sequence, 1)});
    const DeviceArray<int32_t> words({batch.words().begin(), batch.words().end()}, stream_);
    const DeviceArray<int32_t> visible(visible_, stream_);
    const DeviceArray<int32_t> candidates(candidates_, stream_);
    const DeviceArray<int32_t> device_windows(windows, stream_);
    DeviceMatrix queries(ring_, stream_);
    const int stride = candidates_[0] + 2;
    const size_t rows = windows.size() * static_cast<size_t>(shape_.num_heads);
    const DeviceArray<float> means(
        std::vector<float>(rows * static_cast<size_t>(stride), kUnwritten), stream_);
    const DeviceArray<float> maxima(
        std::vector<float>(static_cast<size_t>(shape_.num_kv_heads * focus_window * stride) + 1,
                           kUnwritten),
        stream_);
    const DeviceArray<float> workspace(WindowWorkspaceFloats(shape_, num_queries_, entries_[0]),
                                       stream_);
    const cudaError_t error =
        WindowScores(stream_, {.queries = queries.tensor(),
                               .first_query = kFirstQuery,
                               .num_queries = num_queries_,
                               .shape = shape_,
                               .log2_scale = kScale * 1.4426950408889634f,
                               .kv = cache_.kv(),
                               .batch = batch.View(words.data()),
                               .max_entries = entries_[0],
                               .num_visible = visible.data(),
                               .num_candidates = candidates.data(),
                               .max_candidates = candidates_[0],
                               .stride = stride,
                               .windows = device_windows.data(),
                               .num_windows = static_cast<int>(windows.size()),
                               .means = means.data(),
                               .focus_window = focus_window,
                               .maxima = focus_window > 0 ? maxima.data() : nullptr,
                               .workspace = workspace.data()});
    ASSERT_EQ(error, cudaSuccess);
    CheckMeans(means.ToHost(), windows, stride);
    if (focus_window > 0) CheckMaxima(maxima.ToHost(), focus_window, stride);
  }

 private:
  static constexpr int kFirstQuery = 2;

  // The softmax of one query over what it sees of its KV head, in double precision.
  std::vector<double> Probabilities(int head, int query) const {
    const int kv_head = shape_.KvHeadOf(head);
    const int row = (kFirstQuery + query) % ring_.rows();
    const int visible = visible_[static_cast<size_t>(kv_head * num_queries_ + query)];
    std::vector<double> p(static_cast<size_t>(entries_[0]), 0.0);
    double sum = 0;
    for (int entry = 0; entry < visible; ++entry) {
      double score = 0;
      for (int i = 0; i < shape_.head_dim; ++i) {
        score += double{ring_.at(row, head * shape_.head_dim + i)} *
                 cache_.Number(0, kv_head, entry, false, i);
      }
      sum += p[static_cast<size_t>(entry)] = std::exp(score * kScale);
    }
    for (double& value : p) value /= sum;
    return p;
  }

  void CheckMeans(const std::vector<float>& means, const std::vector<int32_t>& windows,
                  int stride) const {
    for (size_t window = 0; window < windows.size(); ++window) {
      for (int head = 0; head < shape_.num_heads; ++head) {
        std::vector<double> expected(static_cast<size_t>(entries_[0]), 0.0);
        for (int query = num_queries_ - windows[window]; query < num_queries_; ++query) {
          const std::vector<double> p = Probabilities(head, query);
          for (size_t i = 0; i < p.size(); ++i) expected[i] += p[i] / windows[window];
        }
        const int candidates = candidates_[static_cast<size_t>(shape_.KvHeadOf(head))];
        const size_t row =
            (window * static_cast<size_t>(shape_.num_heads) + static_cast<size_t>(head)) *
            static_cast<size_t>(stride);
        for (int i = 0; i < stride; ++i) {
          const size_t entry = static_cast<size_t>(i);
          ASSERT_NEAR(means[row + entry], i < candidates ? expected[entry] : kUnwritten, 2e-6)
              << "window " << windows[window] << " head " << head << " entry " << i;
        }
      }
    }
  }

  void CheckMaxima(const std::vector<float>& maxima, int focus_window, int stride) const {
    for (int kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head) {
      for (int focus = 0; focus < focus_window; ++focus) {
        std::vector<double> expected(static_cast<size_t>(entries_[0]), 0.0);
        for (int head = 0; head < shape_.num_heads; ++head) {
          if (shape_.KvHeadOf(head) != kv_head) continue;
          const std::vector<double> p = Probabilities(head, num_queries_ - focus_window + focus);
          for (size_t i = 0; i < p.size(); ++i) expected[i] = std::max(expected[i], p[i]);
        }
        const size_t row = static_cast<size_t>((kv_head * focus_window + focus) * stride);
        for (int i = 0; i < candidates_[static_cast<size_t>(kv_head)]; ++i) {
          ASSERT_NEAR(maxima[row + static_cast<size_t>(i)], expected[static_cast<size_t>(i)], 2e-6);
        }
      }
    }
  }

  const HeadShape shape_;
  const cudaStream_t stream_;
  PagedCache cache_;
  const Matrix ring_;
  const int num_queries_;
  std::vector<int> entries_;         // [num_kv_heads]
  std::vector<int32_t> candidates_;  // [num_kv_heads]
  std::vector<int32_t> visible_;     // [num_kv_heads, num_queries]
};

class CudaWindowScoresTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaWindowScoresTest, kAllOrders, OrderName);

TEST_P(CudaWindowScoresTest, MatchesDoublePrecision) {
  for (const ScoreCase& c : kShapes) {
    for (int num_entries : {17, 97}) {
      WindowScoresFixture(c, num_entries, 8, stream_).RunAndCheck({8, 3}, 5);
    }
  }
}

// Sizes beside those of tiles and of what a thread scores at once.
TEST_P(CudaWindowScoresTest, TakesAnyNumberOfEntriesQueriesAndWindows) {
  for (const ScoreCase& c : {kShapes[1], kShapes[3], kShapes[4], kShapes[6], kShapes[7]}) {
    for (const int num_queries : {7, 33}) {
      WindowScoresFixture(c, 129 + 8 * num_queries, num_queries, stream_)
          .RunAndCheck({num_queries, 1, 5}, num_queries - 1);
    }
  }
}

TEST_P(CudaWindowScoresTest, MaximaMayBeUnwanted) {
  WindowScoresFixture(kShapes[0], 70, 3, stream_).RunAndCheck({3}, 0);
}

TEST_P(CudaWindowScoresTest, OneQueryOneEntry) {
  WindowScoresFixture(kShapes[0], 1, 1, stream_).RunAndCheck({1}, 1);
}

}  // namespace
}  // namespace kvec::kernels::cuda
