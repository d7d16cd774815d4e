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
};

struct Windows {
  std::vector<int> sizes;
  int focus = 0;  // 0: not wanted

  int num_queries() const { return std::max(focus, *std::max_element(sizes.begin(), sizes.end())); }
};

struct Scores {
  std::vector<float> means;
  std::vector<float> focus;

  friend bool operator==(const Scores&, const Scores&) = default;
};

// The cache of one sequence with random keys, and a ring with its last queries.
class WindowScoresFixture {
 public:
  WindowScoresFixture(const ScoreCase& c, int num_entries, int num_queries)
      : shape_(c.shape),
        type_(c.type),
        qkv_(Matrix::Random(num_entries, c.shape.qkv_cols(), 11)),
        cache_(c.shape, c.type, c.shape.num_kv_heads * (num_entries / kPageTokens + 1)),
        ring_(num_queries + kRingGap, c.shape.num_heads * c.shape.head_dim),
        num_queries_(num_queries) {
    RunAttention(cache_, qkv_, {{cache_.AddSequence(), num_entries, true}});
    for (int query = 0; query < num_queries; ++query) {
      for (int col = 0; col < ring_.cols(); ++col) {
        ring_.at((kFirstQuery + query) % ring_.rows(), col) =
            qkv_.at(num_entries - num_queries + query, col);
      }
    }
  }

  WindowScoreRequest Request(const Windows& windows, int num_candidates, Scores& to) {
    heads_ = cache_.Heads(0);
    // What was there before must not matter.
    to.means.assign(windows.sizes.size() * shape_.num_heads * num_candidates, NAN);
    to.focus.assign(windows.focus > 0 ? num_candidates : 0, NAN);
    WindowScoreRequest request;
    request.queries = ring_.tensor();
    request.first_query = kFirstQuery;
    request.num_queries = num_queries_;
    request.heads = heads_;
    request.num_candidates = num_candidates;
    request.scale = kScale;
    request.windows = windows.sizes;
    request.means = to.means.data();
    request.focus_window = windows.focus;
    request.focus = windows.focus > 0 ? to.focus.data() : nullptr;
    return request;
  }

  Scores Run(const Windows& windows, int num_candidates, int num_threads = 2) {
    ThreadPool pool(num_threads);
    Scores scores;
    const WindowScoreRequest request = Request(windows, num_candidates, scores);
    const absl::Status status = WindowScores(pool, shape_, request, cache_.arena());
    EXPECT_TRUE(status.ok()) << status;
    return scores;
  }

  // By the definition, in double precision.
  Scores Reference(const Windows& windows, int num_candidates) const {
    const auto probabilities = Probabilities();
    const auto at = [&](int head, int from_last, int entry) {
      return probabilities[head][num_queries_ - from_last][entry];
    };
    Scores scores;
    for (int window : windows.sizes) {
      for (int head = 0; head < shape_.num_heads; ++head) {
        for (int entry = 0; entry < num_candidates; ++entry) {
          double sum = 0;
          for (int i = 1; i <= window; ++i) sum += at(head, i, entry);
          scores.means.push_back(static_cast<float>(sum / window));
        }
      }
    }
    for (int entry = 0; windows.focus > 0 && entry < num_candidates; ++entry) {
      double sum = 0;
      for (int i = 1; i <= windows.focus; ++i) {
        double largest = 0;
        for (int head = 0; head < shape_.num_heads; ++head) {
          largest = std::max(largest, at(head, i, entry));
        }
        sum += largest;
      }
      scores.focus.push_back(static_cast<float>(sum / windows.focus));
    }
    return scores;
  }

  const HeadShape& shape() const { return shape_; }
  PagedCache& cache() { return cache_; }

 private:
  static constexpr int kFirstQuery = 5;

  // [num_heads][num_queries][num_entries]
  std::vector<std::vector<std::vector<double>>> Probabilities() const {
    std::vector<std::vector<std::vector<double>>> all(shape_.num_heads);
    for (int head = 0; head < shape_.num_heads; ++head) {
      for (int row = qkv_.rows() - num_queries_; row < qkv_.rows(); ++row) {
        std::vector<double> weights(qkv_.rows(), 0.0);
        double sum = 0;
        for (int entry = 0; entry <= row; ++entry) sum += weights[entry] = Weight(head, row, entry);
        for (double& weight : weights) weight /= sum;
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
      score += double{qkv_.at(row, head * dim + i)} * RoundTo(type_, qkv_.at(entry, key + i));
    }
    return std::exp(score * kScale);
  }

  const HeadShape shape_;
  const KvType type_;
  Matrix qkv_;
  PagedCache cache_;
  Matrix ring_;
  const int num_queries_;
  std::vector<HeadPages> heads_;
};

void ExpectClose(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[i], 3e-5f * expected[i]) << "number " << i;
  }
}

class WindowScoresTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, WindowScoresTest, kAllIsas, IsaTestName);

TEST_P(WindowScoresTest, MatchDoublePrecision) {
  const Windows kWindows[] = {{{8}}, {{16, 32}, 16}};
  for (const ScoreCase& c : kShapes) {
    for (int entries : {33, 97, 511, 513, 1000}) {
      for (const Windows& windows : kWindows) {
        WindowScoresFixture fixture(c, entries, windows.num_queries());
        const Scores actual = fixture.Run(windows, entries - 16);
        const Scores expected = fixture.Reference(windows, entries - 16);
        ExpectClose(actual.means, expected.means);
        ExpectClose(actual.focus, expected.focus);
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
    const Scores actual = fixture.Run(windows, 17);
    const Scores expected = fixture.Reference(windows, 17);
    ExpectClose(actual.means, expected.means);
    ExpectClose(actual.focus, expected.focus);
  }
}

TEST_P(WindowScoresTest, AWindowMayBeShorterThanTheQueriesKept) {
  WindowScoresFixture fixture(kShapes[1], 100, 32);
  const Windows windows{{8, 16, 1}, 4};
  const Scores actual = fixture.Run(windows, 84);
  const Scores expected = fixture.Reference(windows, 84);
  ExpectClose(actual.means, expected.means);
  ExpectClose(actual.focus, expected.focus);
}

TEST_P(WindowScoresTest, GiveTheSameBitsForAnyNumberOfThreads) {
  WindowScoresFixture fixture(kShapes[1], 1000, 32);
  const Windows windows{{16, 32}, 16};
  EXPECT_EQ(fixture.Run(windows, 984, 1), fixture.Run(windows, 984, 3));
}

TEST(WindowScores, RequestsThatDoNotFitAreRejected) {
  WindowScoresFixture fixture(kShapes[0], 40, 16);
  const Windows windows{{16}, 16};
  Scores scores;
  const WindowScoreRequest good = fixture.Request(windows, 24, scores);
  const std::vector<int> too_long = {17};
  WindowScoreRequest requests[] = {good, good, good, good};
  requests[0].windows = too_long;
  requests[1].num_candidates = 41;
  requests[2].num_queries = 16 + kRingGap + 1;
  requests[3].heads = requests[3].heads.subspan(1);
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
