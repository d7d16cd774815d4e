#include "kernels/cpu/window_scores.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/paged_attention.h"

namespace kvec::kernels::cpu {
namespace {

constexpr float kScale = 0.5f;
constexpr int kRingGap = 3;  // rows of the ring that hold no query of the window

struct ScoreCase {
  HeadShape shape;
  KvType type;
};

constexpr ScoreCase kShapes[] = {
    {{.num_heads = 3, .num_kv_heads = 3, .head_dim = 64, .group_size = 1}, KvType::kBF16},
    {{.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .group_size = 3}, KvType::kF32},
    {{.num_heads = 8, .num_kv_heads = 2, .head_dim = 80, .group_size = 4}, KvType::kF16},
    {{.num_heads = 6, .num_kv_heads = 2, .head_dim = 128, .group_size = 3}, KvType::kBF16},
    {{.num_heads = 2, .num_kv_heads = 2, .head_dim = 128, .group_size = 1}, KvType::kF32},
    // The second rank of 9 heads in groups of 3, cut 5 to 4.
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 3, .group_offset = 2},
     KvType::kF16},
    {{.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .group_size = 3}, KvType::kInt8},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 72, .group_size = 2}, KvType::kInt8},
};

struct Windows {
  std::vector<int> sizes;
  int focus = 0;  // 0: not wanted

  int num_queries() const { return std::max(focus, *std::max_element(sizes.begin(), sizes.end())); }
};

struct Scores {
  std::vector<float> means;
  std::vector<float> maxima;

  friend bool operator==(const Scores&, const Scores&) = default;
};

// The cache of one sequence with random keys, and a ring with its last queries.
class WindowScoresFixture {
 public:
  WindowScoresFixture(const ScoreCase& c, int num_entries, int num_queries)
      : shape_(c.shape),
        qkv_(Matrix::Random(num_entries, c.shape.qkv_cols(), 11)),
        cache_(c.shape, c.type, c.shape.num_kv_heads * (num_entries / kPageTokens + 1)),
        ring_(num_queries + kRingGap, c.shape.num_heads * c.shape.head_dim),
        num_queries_(num_queries),
        num_entries_(c.shape.num_kv_heads, num_entries) {
    for (int head = 0; head < c.shape.num_kv_heads; ++head) {
      for (int query = 0; query < num_queries; ++query) {
        num_visible_.push_back(num_entries - num_queries + query + 1);
      }
    }
    RunAttention(cache_, qkv_, {{cache_.AddSequence(), num_entries, true}});
    qkv_ = AsStored(cache_, 0, qkv_);
    for (int query = 0; query < num_queries; ++query) {
      for (int col = 0; col < ring_.cols(); ++col) {
        ring_.at((kFirstQuery + query) % ring_.rows(), col) =
            qkv_.at(num_entries - num_queries + query, col);
      }
    }
  }

  // As after an eviction: a KV head holds the fewer entries the higher it is, and the older of the
  // queries see fewer of them than came before.
  void MakeUneven() {
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      num_entries_[head] -= 20 * head;
      for (int query = 0; query < num_queries_; ++query) {
        VisibleTo(head, query) =
            query < num_queries_ / 2 ? num_entries_[head] / 3 : num_entries_[head];
      }
    }
    VisibleTo(shape_.num_kv_heads - 1, 0) = 0;
  }

  // All entries of a head but the last `num_left` are candidates.
  WindowScoreRequest Request(const Windows& windows, int num_left, Scores& to) {
    heads_ = cache_.Heads(0);
    num_candidates_.clear();
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      heads_[head].num_entries = num_entries_[head];
      num_candidates_.push_back(num_entries_[head] - num_left);
    }
    to.means.assign(windows.sizes.size() * shape_.num_heads * Stride(), kUntouched);
    to.maxima.assign(size_t(windows.focus) * shape_.num_kv_heads * Stride(), kUntouched);
    WindowScoreRequest request;
    request.queries = ring_.tensor();
    request.first_query = kFirstQuery;
    request.num_queries = num_queries_;
    request.heads = heads_;
    request.num_visible = num_visible_;
    request.num_candidates = num_candidates_;
    request.stride = Stride();
    request.scale = kScale;
    request.windows = windows.sizes;
    request.means = to.means.data();
    request.focus_window = windows.focus;
    request.maxima = windows.focus > 0 ? to.maxima.data() : nullptr;
    return request;
  }

  Scores Run(const Windows& windows, int num_left, int num_threads = 2) {
    ThreadPool pool(num_threads);
    Scores scores;
    const WindowScoreRequest request = Request(windows, num_left, scores);
    const absl::Status status = WindowScores(pool, shape_, request, cache_.arena());
    EXPECT_TRUE(status.ok()) << status;
    return scores;
  }

  // By the definition, in double precision, of the last request.
  Scores Reference(const Windows& windows) const {
    const auto probabilities = Probabilities();
    const auto at = [&](int head, int from_last, int entry) {
      return probabilities[head][num_queries_ - from_last][entry];
    };
    Scores scores;
    for (int window : windows.sizes) {
      for (int head = 0; head < shape_.num_heads; ++head) {
        AddRow(shape_.KvHeadOf(head), scores.means, [&](int entry) {
          double sum = 0;
          for (int i = 1; i <= window; ++i) sum += at(head, i, entry);
          return sum / window;
        });
      }
    }
    for (int kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head) {
      for (int i = windows.focus; i > 0; --i) {
        AddRow(kv_head, scores.maxima, [&](int entry) {
          double largest = 0;
          for (int head = 0; head < shape_.num_heads; ++head) {
            if (shape_.KvHeadOf(head) == kv_head) largest = std::max(largest, at(head, i, entry));
          }
          return largest;
        });
      }
    }
    return scores;
  }

  const HeadShape& shape() const { return shape_; }
  PagedCache& cache() { return cache_; }

 private:
  static constexpr int kFirstQuery = 5;
  static constexpr float kUntouched = -1;

  int Stride() const { return num_candidates_.front() + 2; }
  int32_t& VisibleTo(int kv_head, int query) { return num_visible_[kv_head * num_queries_ + query]; }

  // A row of a result: the value of each candidate, and what was there behind them.
  template <typename Value>
  void AddRow(int kv_head, std::vector<float>& to, Value value) const {
    for (int entry = 0; entry < Stride(); ++entry) {
      const bool is_candidate = entry < num_candidates_[kv_head];
      to.push_back(is_candidate ? static_cast<float>(value(entry)) : kUntouched);
    }
  }

  // [num_heads][num_queries][num_entries]
  std::vector<std::vector<std::vector<double>>> Probabilities() const {
    std::vector<std::vector<std::vector<double>>> all(shape_.num_heads);
    for (int head = 0; head < shape_.num_heads; ++head) {
      for (int row = qkv_.rows() - num_queries_; row < qkv_.rows(); ++row) {
        const int query = row - (qkv_.rows() - num_queries_);
        const int visible = num_visible_[shape_.KvHeadOf(head) * num_queries_ + query];
        std::vector<double> weights(qkv_.rows(), 0.0);
        double sum = 0;
        for (int entry = 0; entry < visible; ++entry) {
          sum += weights[entry] = Weight(head, row, entry);
        }
        for (int entry = 0; entry < visible; ++entry) weights[entry] /= sum;
        all[head].push_back(std::move(weights));
      }
    }
    return all;
  }

  double Weight(int head, int row, int entry) const {
    const int dim = shape_.head_dim;
    const int key = (shape_.num_heads + shape_.KvHeadOf(head)) * dim;
    double score = 0;
    for (int i = 0; i < dim; ++i) {
      score += double{qkv_.at(row, head * dim + i)} * qkv_.at(entry, key + i);
    }
    return std::exp(score * kScale);
  }

  const HeadShape shape_;
  Matrix qkv_;
  PagedCache cache_;
  Matrix ring_;
  const int num_queries_;
  std::vector<int> num_entries_;      // [num_kv_heads]
  std::vector<int32_t> num_visible_;  // [num_kv_heads, num_queries]
  // Of the last request.
  std::vector<HeadPages> heads_;
  std::vector<int32_t> num_candidates_;
};

void ExpectClose(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], 3e-5f * std::abs(expected[i])) << "number " << i;
  }
}

void ExpectClose(const Scores& actual, const Scores& expected) {
  ExpectClose(actual.means, expected.means);
  ExpectClose(actual.maxima, expected.maxima);
}

class WindowScoresTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, WindowScoresTest, kAllIsas, IsaTestName);

TEST_P(WindowScoresTest, MatchDoublePrecision) {
  const Windows kWindows[] = {{{8}}, {{16, 32}, 16}};
  for (const ScoreCase& c : kShapes) {
    for (int entries : {33, 97, 511, 513, 1000}) {
      for (const Windows& windows : kWindows) {
        WindowScoresFixture fixture(c, entries, windows.num_queries());
        const Scores actual = fixture.Run(windows, 16);
        ExpectClose(actual, fixture.Reference(windows));
        if (HasFatalFailure()) FAIL() << "head_dim " << c.shape.head_dim << ", " << entries;
      }
    }
  }
}

TEST_P(WindowScoresTest, QueriesDoNotSeeLaterEntries) {
  // All entries are candidates: the probability of the last ones is 0 for the earlier queries.
  const Windows windows{{1, 3, 17}, 17};
  for (const ScoreCase& c : kShapes) {
    WindowScoresFixture fixture(c, 17, 17);
    const Scores actual = fixture.Run(windows, 0);
    ExpectClose(actual, fixture.Reference(windows));
  }
}

TEST_P(WindowScoresTest, AWindowMayBeShorterThanTheQueriesKept) {
  WindowScoresFixture fixture(kShapes[1], 100, 32);
  const Windows windows{{8, 16, 1}, 4};
  const Scores actual = fixture.Run(windows, 16);
  ExpectClose(actual, fixture.Reference(windows));
}

TEST_P(WindowScoresTest, HeadsMayHoldDifferentNumbersOfEntries) {
  const Windows windows{{8, 16}, 16};
  for (const ScoreCase& c : kShapes) {
    for (int entries : {97, 550}) {
      WindowScoresFixture fixture(c, entries, 16);
      fixture.MakeUneven();
      const Scores actual = fixture.Run(windows, 16);
      ExpectClose(actual, fixture.Reference(windows));
      if (HasFatalFailure()) FAIL() << "head_dim " << c.shape.head_dim << ", " << entries;
    }
  }
}

TEST_P(WindowScoresTest, GiveTheSameBitsForAnyNumberOfThreads) {
  WindowScoresFixture fixture(kShapes[1], 1000, 32);
  const Windows windows{{16, 32}, 16};
  EXPECT_EQ(fixture.Run(windows, 16, 1), fixture.Run(windows, 16, 3));
}

TEST(WindowScores, RequestsThatDoNotFitAreRejected) {
  WindowScoresFixture fixture(kShapes[0], 40, 16);
  const Windows windows{{16}, 16};
  Scores scores;
  const WindowScoreRequest good = fixture.Request(windows, 16, scores);
  const std::vector<int> too_long = {17};
  const std::vector<int32_t> too_many = {24, 41, 24};
  const std::vector<int32_t> sees_too_much(3 * 16, 41);
  WindowScoreRequest requests[] = {good, good, good, good, good, good};
  requests[0].windows = too_long;
  requests[1].num_candidates = too_many;
  requests[2].num_queries = 16 + kRingGap + 1;
  requests[3].heads = requests[3].heads.subspan(1);
  requests[4].num_visible = sees_too_much;
  requests[5].stride = 23;
  ThreadPool pool(1);
  for (const WindowScoreRequest& request : requests) {
    const absl::Status status =
        WindowScores(pool, fixture.shape(), request, fixture.cache().arena());
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("window scores: "));
  }
}

}  // namespace
}  // namespace kvec::kernels::cpu
