#include "kernels/cpu/attention.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/paged_attention.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

constexpr float kTolerance = 1e-5f;  // values are of order 1
// Queries and weights are rounded to 16 bits.
constexpr float kInt8DecodeTolerance = 5e-4f;

float Tolerance(KvType type, bool is_prompt) {
  return type == KvType::kInt8 && !is_prompt ? kInt8DecodeTolerance : kTolerance;
}

struct ShapeCase {
  HeadShape shape;
  KvType type;
};

constexpr ShapeCase kShapes[] = {
    {{.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .group_size = 3}, KvType::kBF16},
    {{.num_heads = 4, .num_kv_heads = 4, .head_dim = 80, .group_size = 1}, KvType::kF16},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 96, .group_size = 2}, KvType::kF32},
    {{.num_heads = 14, .num_kv_heads = 2, .head_dim = 128, .group_size = 7}, KvType::kBF16},
    {{.num_heads = 4, .num_kv_heads = 1, .head_dim = 256, .group_size = 4}, KvType::kBF16},
    {{.num_heads = 16, .num_kv_heads = 1, .head_dim = 8, .group_size = 16}, KvType::kF32},
    {{.num_heads = 5, .num_kv_heads = 1, .head_dim = 72, .group_size = 5}, KvType::kF16},
    {{.num_heads = 11, .num_kv_heads = 1, .head_dim = 40, .group_size = 11}, KvType::kBF16},
    // The ranks of 9 heads in groups of 3, cut 5 to 4.
    {{.num_heads = 5, .num_kv_heads = 2, .head_dim = 64, .group_size = 3}, KvType::kF32},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 3, .group_offset = 2},
     KvType::kF32},
    {{.num_heads = 9, .num_kv_heads = 3, .head_dim = 64, .group_size = 3}, KvType::kInt8},
    {{.num_heads = 4, .num_kv_heads = 1, .head_dim = 256, .group_size = 4}, KvType::kInt8},
    {{.num_heads = 5, .num_kv_heads = 1, .head_dim = 72, .group_size = 5}, KvType::kInt8},
    {{.num_heads = 2, .num_kv_heads = 1, .head_dim = 8, .group_size = 2}, KvType::kInt8},
    {{.num_heads = 1, .num_kv_heads = 1, .head_dim = 512, .group_size = 1}, KvType::kInt8},
};

int PagesFor(const HeadShape& shape, int entries) {
  return shape.num_kv_heads * (entries / kPageTokens + 1);
}

class AttentionTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, AttentionTest, kAllIsas, IsaTestName);

TEST_P(AttentionTest, PromptMatchesDoublePrecision) {
  for (const ShapeCase& c : kShapes) {
    for (int tokens : {1, 7, 17, 97, 300}) {
      Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 1);
      PagedCache cache(c.shape, c.type, PagesFor(c.shape, tokens));
      const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), tokens, true}});
      const Matrix stored = AsStored(cache, 0, qkv);
      EXPECT_LE(LargestDifference(out, ReferenceAttention(stored, c.shape, 0, 0.125)),
                Tolerance(c.type, true))
          << "head_dim " << c.shape.head_dim << ", " << tokens << " tokens";
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(AttentionTest, GeneratedMatchesDoublePrecision) {
  for (const ShapeCase& c : kShapes) {
    for (int tokens : {1, 7, 17, 97, 300}) {
      Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 2);
      PagedCache cache(c.shape, c.type, PagesFor(c.shape, tokens));
      const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), tokens, false}});
      const Matrix stored = AsStored(cache, 0, qkv);
      EXPECT_LE(LargestDifference(out, ReferenceAttention(stored, c.shape, 0, 0.125)),
                Tolerance(c.type, false))
          << "head_dim " << c.shape.head_dim << ", " << tokens << " tokens";
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(AttentionTest, LongSequencesMatchDoublePrecision) {
  const HeadShape shape{.num_heads = 2, .num_kv_heads = 1, .head_dim = 16, .group_size = 2};
  const int tokens = 1100;
  Matrix qkv = Matrix::Random(tokens, shape.qkv_cols(), 3, 2.0f);
  const Matrix expected = ReferenceAttention(qkv, shape, 0, 0.25);
  for (bool is_prompt : {true, false}) {
    PagedCache cache(shape, KvType::kF32, PagesFor(shape, tokens));
    const Matrix out =
        RunAttention(cache, qkv, {{cache.AddSequence(), tokens, is_prompt}}, {.scale = 0.25f});
    EXPECT_LE(LargestDifference(out, expected), 2 * kTolerance);
  }
}

TEST_P(AttentionTest, LargeScoresNeitherOverflowNorVanish) {
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 8, .group_size = 1};
  Matrix qkv = Matrix::Random(200, shape.qkv_cols(), 4, 100.0f);
  const Matrix expected = ReferenceAttention(qkv, shape, 0, 0.125);
  for (bool is_prompt : {true, false}) {
    PagedCache cache(shape, KvType::kF32, PagesFor(shape, 200));
    const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), 200, is_prompt}});
    EXPECT_LE(LargestDifference(out, expected), 1.0f);  // values of 100 and scores of 1e4
  }
}

// Runs all rows in steps, with page ids that would fault if they were read where pages slid out.
void CheckSlidingWindow(const ShapeCase& c, Matrix& qkv, const Matrix& stored, int window,
                        bool is_prompt) {
  const Matrix expected = ReferenceAttention(stored, c.shape, window, 0.125);
  PagedCache cache(c.shape, c.type, PagesFor(c.shape, qkv.rows()));
  const int sequence = cache.AddSequence();
  const int step = 33;
  for (int begin = 0; begin < qkv.rows(); begin += step) {
    const int gone = std::max(0, begin + 1 - window) / kPageTokens;
    for (int head = 0; head < c.shape.num_kv_heads; ++head) {
      std::fill_n(cache.table(sequence, head).begin(), gone, 2000000000);
    }
    Matrix chunk = RowsOf(qkv, begin, begin + step);
    const Matrix out =
        RunAttention(cache, chunk, {{sequence, step, is_prompt}}, {.sliding_window = window});
    EXPECT_LE(LargestDifference(out, RowsOf(expected, begin, begin + step)),
              Tolerance(c.type, is_prompt))
        << "window " << window << ", rows from " << begin;
  }
}

TEST_P(AttentionTest, SlidingWindowReadsNoPageThatSlidOut) {
  const HeadShape shape = kShapes[0].shape;
  for (KvType type : {KvType::kBF16, KvType::kInt8}) {
    Matrix qkv = Matrix::Random(330, shape.qkv_cols(), 5);
    PagedCache whole(shape, type, PagesFor(shape, qkv.rows()));
    RunAttention(whole, qkv, {{whole.AddSequence(), qkv.rows(), true}});
    const Matrix stored = AsStored(whole, 0, qkv);
    for (int window : {1, 15, 16, 17, 100, 128, 511}) {
      for (bool is_prompt : {true, false}) {
        CheckSlidingWindow({shape, type}, qkv, stored, window, is_prompt);
      }
    }
  }
}

// Runs a prompt in chunks and returns all rows.
Matrix RunInChunks(const HeadShape& shape, KvType type, Matrix& qkv, int chunk, bool is_prompt,
                   const RunOptions& options) {
  PagedCache cache(shape, type, PagesFor(shape, qkv.rows()));
  const int sequence = cache.AddSequence();
  Matrix all(qkv.rows(), shape.num_heads * shape.head_dim);
  for (int begin = 0; begin < qkv.rows(); begin += chunk) {
    const int end = std::min(qkv.rows(), begin + chunk);
    Matrix rows = RowsOf(qkv, begin, end);
    const Matrix out = RunAttention(cache, rows, {{sequence, end - begin, is_prompt}}, options);
    for (int row = begin; row < end; ++row) {
      for (int col = 0; col < all.cols(); ++col) all.at(row, col) = out.at(row - begin, col);
    }
  }
  return all;
}

TEST_P(AttentionTest, BitsDependNeitherOnChunksNorOnThreads) {
  for (const ShapeCase& c : {kShapes[0], kShapes[1], kShapes[3], kShapes[10]}) {
    for (int window : {0, 200}) {
      Matrix qkv = Matrix::Random(577, c.shape.qkv_cols(), 6);
      for (bool is_prompt : {true, false}) {
        const Matrix whole =
            RunInChunks(c.shape, c.type, qkv, 577, is_prompt, {.sliding_window = window});
        for (int chunk : {1, 3, 16, 100, 512, 577}) {
          for (int num_threads : {1, 2}) {
            if (chunk < 16 && num_threads > 1) continue;  // hundreds of thread pools
            EXPECT_EQ(RunInChunks(c.shape, c.type, qkv, chunk, is_prompt,
                                  {.sliding_window = window, .num_threads = num_threads}),
                      whole)
                << "chunks of " << chunk << ", " << num_threads << " threads, window " << window;
          }
        }
      }
    }
  }
}

void CheckNeighbours(const HeadShape& shape, KvType type) {
  const std::vector<SequenceRun> runs = {
      {0, 40, true}, {1, 1, false}, {2, 300, true}, {3, 2, false}};
  Matrix past = Matrix::Random(700, shape.qkv_cols(), 8);
  Matrix rows = Matrix::Random(343, shape.qkv_cols(), 9);
  PagedCache together(shape, type, 4 * PagesFor(shape, 1100));
  std::vector<Matrix> alone;
  int begin = 0;
  for (const SequenceRun& run : runs) {
    PagedCache cache(shape, type, PagesFor(shape, 1100));
    cache.AddSequence();
    together.AddSequence();
    RunAttention(cache, past, {{0, 700, true}});
    RunAttention(together, past, {{run.sequence, 700, true}});
    Matrix own = RowsOf(rows, begin, begin + run.num_rows);
    alone.push_back(RunAttention(cache, own, {{0, run.num_rows, run.is_prompt}}));
    begin += run.num_rows;
  }
  const Matrix out = RunAttention(together, rows, runs, {.num_threads = 2});
  begin = 0;
  for (size_t i = 0; i < runs.size(); ++i) {
    EXPECT_EQ(RowsOf(out, begin, begin + runs[i].num_rows), alone[i]) << "sequence " << i;
    begin += runs[i].num_rows;
  }
}

TEST_P(AttentionTest, BitsDoNotDependOnNeighbours) {
  for (KvType type : {KvType::kBF16, KvType::kInt8}) CheckNeighbours(kShapes[0].shape, type);
}

// After an eviction: what a head holds is the end of the sequence.
void CheckUnevenHeads(KvType type) {
  const HeadShape shape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 2};
  Matrix past = Matrix::Random(150, shape.qkv_cols(), 10);
  Matrix row = Matrix::Random(1, shape.qkv_cols(), 11);
  for (bool is_prompt : {true, false}) {
    std::vector<Matrix> results;
    for (int length : {50, 150}) {
      PagedCache cache(shape, type, 64);
      cache.AddSequence();
      Matrix kept = RowsOf(past, 150 - length, 150);
      RunAttention(cache, kept, {{0, length, true}});
      results.push_back(RunAttention(cache, row, {{0, 1, is_prompt}}));
    }
    PagedCache cache(shape, type, 64);
    cache.AddSequence();
    Matrix kept = RowsOf(past, 100, 150);
    RunAttention(cache, past, {{0, 150, true}});
    // The first head now gets only the last 50 entries.
    PagedCache shorter(shape, type, 64);
    shorter.AddSequence();
    RunAttention(shorter, kept, {{0, 50, true}});
    for (int32_t page = 0; page < 4; ++page) {
      std::copy_n(shorter.arena().keys(shorter.table(0, 0)[page]),
                  cache.arena().spec().page_bytes(), cache.arena().keys(cache.table(0, 0)[page]));
    }
    cache.GrowHead(0, 0, -100);
    const Matrix out = RunAttention(cache, row, {{0, 1, is_prompt}});
    for (int col = 0; col < out.cols(); ++col) {
      EXPECT_EQ(out.at(0, col), results[col < 2 * 64 ? 0 : 1].at(0, col)) << "column " << col;
    }
  }
}

TEST_P(AttentionTest, HeadsMayHoldDifferentNumbersOfEntries) {
  for (KvType type : {KvType::kF32, KvType::kInt8}) CheckUnevenHeads(type);
}

TEST(AttentionArgumentsTest, RejectsWhatDoesNotFitTogether) {
  const HeadShape shape = kShapes[0].shape;
  PagedCache cache(shape, KvType::kBF16, 16);
  cache.AddSequence();
  cache.Grow(0, 2);
  const std::vector<HeadPages> heads = cache.Heads(0);
  Matrix qkv(2, shape.qkv_cols());
  Matrix out(2, shape.num_heads * shape.head_dim);
  ThreadPool pool(1);
  const auto attend = [&](const AttentionSequence& sequence, HeadShape wanted, int window = 0) {
    const AttentionBatch batch{absl::MakeConstSpan(&sequence, 1), window, 1.0f};
    return std::string(
        Attention(pool, qkv.tensor(), wanted, batch, cache.arena(), out.tensor()).message());
  };
  EXPECT_EQ(attend({0, 2, true, heads}, shape), "");
  EXPECT_THAT(attend({1, 2, true, heads}, shape), HasSubstr("rows 1 + 2 of 2"));
  EXPECT_THAT(attend({0, -1, true, heads}, shape), HasSubstr("rows 0 + -1"));
  EXPECT_THAT(attend({0, 2, true, {}}, shape), HasSubstr("page tables of 0 KV heads"));
  EXPECT_THAT(attend({0, 2, true, heads}, shape, -1), HasSubstr("sliding_window -1"));
  HeadShape other = shape;
  other.head_dim = 32;
  EXPECT_THAT(attend({0, 2, true, heads}, other), HasSubstr("head_dim 32"));
  other = shape;
  other.group_offset = 3;
  EXPECT_THAT(attend({0, 2, true, heads}, other), HasSubstr("do not fill 3 KV heads"));
  cache.Grow(0, -1);
  EXPECT_THAT(attend({0, 2, true, cache.Heads(0)}, shape), HasSubstr("num_entries 1 with 2 rows"));
}

}  // namespace
}  // namespace kvec::kernels::cpu
