// Prefill and decode attention over per-head page tables.

#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

using cpu::LargestDifference;
using cpu::RowsOf;

constexpr float kTolerance = 1e-5f;  // values are of order 1

// Tensor cores take queries and weights of a prompt in the arena's type: 11 bits, or 8.
float ToleranceOf(KvType type, bool is_prompt) {
  if (!is_prompt || type == KvType::kF32 || type == KvType::kInt8) return kTolerance;
  return type == KvType::kF16 ? 2e-3f : 2e-2f;
}

struct ShapeCase {
  HeadShape shape;
  KvType type;
};

// head_dim 64 … 256, groups of 1 … 16. 72 is no multiple of the tensor cores' 16.
constexpr ShapeCase kShapes[] = {
    {{.num_heads = 3, .num_kv_heads = 1, .head_dim = 64, .group_size = 3}, KvType::kBF16},
    {{.num_heads = 2, .num_kv_heads = 2, .head_dim = 80, .group_size = 1}, KvType::kF16},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 96, .group_size = 2}, KvType::kF32},
    {{.num_heads = 7, .num_kv_heads = 1, .head_dim = 128, .group_size = 7}, KvType::kBF16},
    {{.num_heads = 4, .num_kv_heads = 1, .head_dim = 256, .group_size = 4}, KvType::kBF16},
    {{.num_heads = 2, .num_kv_heads = 1, .head_dim = 72, .group_size = 2}, KvType::kF16},
    {{.num_heads = 16, .num_kv_heads = 1, .head_dim = 64, .group_size = 16}, KvType::kF32},
    {{.num_heads = 12, .num_kv_heads = 1, .head_dim = 256, .group_size = 12}, KvType::kF32},
    // The ranks of 9 heads in groups of 3, cut 5 to 4.
    {{.num_heads = 5, .num_kv_heads = 2, .head_dim = 64, .group_size = 3}, KvType::kF16},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 3, .group_offset = 2},
     KvType::kF32},
    {{.num_heads = 3, .num_kv_heads = 1, .head_dim = 64, .group_size = 3}, KvType::kInt8},
    {{.num_heads = 2, .num_kv_heads = 2, .head_dim = 80, .group_size = 1}, KvType::kInt8},
    {{.num_heads = 8, .num_kv_heads = 1, .head_dim = 128, .group_size = 8}, KvType::kInt8},
    {{.num_heads = 12, .num_kv_heads = 1, .head_dim = 64, .group_size = 12}, KvType::kInt8},
    {{.num_heads = 2, .num_kv_heads = 1, .head_dim = 256, .group_size = 2}, KvType::kInt8},
    {{.num_heads = 5, .num_kv_heads = 2, .head_dim = 96, .group_size = 3}, KvType::kInt8},
};
constexpr ShapeCase kInt8Shape = {
    {.num_heads = 5, .num_kv_heads = 2, .head_dim = 64, .group_size = 3}, KvType::kInt8};

// Groups of every kind in the tensor cores' blocks: those that fill their rows with 128, 64, …
// tokens and those that leave some out, whole ones and such as other ranks hold a part of.
constexpr ShapeCase kGroups[] = {
    {{.num_heads = 2, .num_kv_heads = 2, .head_dim = 64, .group_size = 1}, KvType::kBF16},
    {{.num_heads = 2, .num_kv_heads = 1, .head_dim = 96, .group_size = 2}, KvType::kF16},
    {{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 3, .group_offset = 2},
     KvType::kBF16},
    {{.num_heads = 4, .num_kv_heads = 1, .head_dim = 128, .group_size = 4}, KvType::kF16},
    {{.num_heads = 7, .num_kv_heads = 2, .head_dim = 80, .group_size = 5, .group_offset = 1},
     KvType::kBF16},
    {{.num_heads = 7, .num_kv_heads = 1, .head_dim = 112, .group_size = 7}, KvType::kBF16},
    {{.num_heads = 8, .num_kv_heads = 1, .head_dim = 128, .group_size = 8}, KvType::kBF16},
    {{.num_heads = 16, .num_kv_heads = 1, .head_dim = 64, .group_size = 16}, KvType::kF16},
    {{.num_heads = 1, .num_kv_heads = 1, .head_dim = 256, .group_size = 1}, KvType::kF16},
    {{.num_heads = 18, .num_kv_heads = 2, .head_dim = 256, .group_size = 16, .group_offset = 14},
     KvType::kBF16},
    {{.num_heads = 7, .num_kv_heads = 2, .head_dim = 128, .group_size = 5, .group_offset = 3},
     KvType::kBF16},
    {{.num_heads = 16, .num_kv_heads = 1, .head_dim = 128, .group_size = 16}, KvType::kF16},
};

int PagesFor(const HeadShape& shape, int entries) {
  return shape.num_kv_heads * (entries / kPageTokens + 1);
}

class CudaAttentionTest : public KernelTest {
 protected:
  PagedCache MakeCache(const ShapeCase& c, int entries, int num_sequences = 1) {
    // Of a real GPU the parameter does not choose the capability.
    return PagedCache(c.shape, c.type, num_sequences * PagesFor(c.shape, entries), stream_,
                      /*may_use_wgmma=*/GetParam().compute_capability == 90);
  }
};
INSTANTIATE_TEST_SUITE_P(MmaSync, CudaAttentionTest, ::testing::ValuesIn(OrdersAt(80)), OrderName);
INSTANTIATE_TEST_SUITE_P(Wgmma, CudaAttentionTest, ::testing::ValuesIn(OrdersAt(90)), OrderName);

class CudaDecodeTest : public CudaAttentionTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaDecodeTest, kAllOrders, OrderName);

TEST_P(CudaAttentionTest, PromptMatchesDoublePrecision) {
  for (const ShapeCase& c : kShapes) {
    for (int tokens : {1, 7, 17, 97}) {
      const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 1);
      PagedCache cache = MakeCache(c, tokens);
      const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), tokens, true}});
      EXPECT_LE(LargestDifference(out, ReferenceAttention(qkv, c.shape, c.type, 0, 0.125)),
                ToleranceOf(c.type, true))
          << "head_dim " << c.shape.head_dim << ", " << tokens << " tokens";
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(CudaAttentionTest, PromptsOfAllGroupsMatchDoublePrecision) {
  for (const ShapeCase& c : kGroups) {
    for (const auto& [tokens, window] : {std::pair{1, 0}, {17, 0}, {70, 0}, {97, 33}}) {
      const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 12);
      PagedCache cache = MakeCache(c, tokens);
      const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), tokens, true}},
                                      {.sliding_window = window});
      EXPECT_LE(LargestDifference(out, ReferenceAttention(qkv, c.shape, c.type, window, 0.125)),
                ToleranceOf(c.type, true))
          << "group " << c.shape.group_size << ", " << tokens << " tokens, window " << window;
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

// A chunk behind other entries, with groups of every size that there is.
TEST_P(CudaAttentionTest, GroupsOf1To16MatchDoublePrecision) {
  constexpr int kPast = 100;
  constexpr int kTokens = kPast + 45;
  for (int group = 1; group <= 16; ++group) {
    const ShapeCase c{{.num_heads = group,
                       .num_kv_heads = 1,
                       .head_dim = group % 2 == 0 ? 64 : 128,
                       .group_size = group},
                      group % 3 == 0 ? KvType::kF16 : KvType::kBF16};
    const Matrix qkv = Matrix::Random(kTokens, c.shape.qkv_cols(), 15);
    PagedCache cache = MakeCache(c, kTokens);
    const int sequence = cache.AddSequence();
    AppendRows(cache, RowsOf(qkv, 0, kPast), {{sequence, kPast, true}});
    const Matrix out =
        RunAttention(cache, RowsOf(qkv, kPast, kTokens), {{sequence, kTokens - kPast, true}});
    const Matrix expected = ReferenceAttention(qkv, c.shape, c.type, 0, 0.125);
    EXPECT_LE(LargestDifference(out, RowsOf(expected, kPast, kTokens)), ToleranceOf(c.type, true))
        << "group " << group;
  }
}

// Several blocks for each head, two sequences, and chunks that begin anywhere.
TEST_P(CudaAttentionTest, ChunksOfLongPromptsMatchDoublePrecision) {
  for (const auto& [c, tokens] :
       {std::pair{kGroups[0], 511}, {kGroups[2], 513}, {kGroups[8], 513}, {kGroups[10], 290}}) {
    const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 13);
    const Matrix expected = ReferenceAttention(qkv, c.shape, c.type, 0, 0.125);
    const int begin = 7;
    PagedCache cache = MakeCache(c, tokens, 2);
    const int sequence = cache.AddSequence();
    const int neighbour = cache.AddSequence();
    AppendRows(cache, RowsOf(qkv, 0, begin), {{sequence, begin, true}});
    // The neighbour's rows are the sequence's last ones, at positions of its own.
    const Matrix out = RunAttention(cache, RowsOf(qkv, begin, tokens),
                                    {{sequence, tokens - begin - 40, true}, {neighbour, 40, true}});
    EXPECT_LE(LargestDifference(RowsOf(out, 0, tokens - begin - 40),
                                RowsOf(expected, begin, tokens - 40)),
              ToleranceOf(c.type, true))
        << "group " << c.shape.group_size << ", " << tokens << " tokens";
    const Matrix expected_of_neighbour =
        ReferenceAttention(RowsOf(qkv, tokens - 40, tokens), c.shape, c.type, 0, 0.125);
    EXPECT_LE(
        LargestDifference(RowsOf(out, tokens - begin - 40, tokens - begin), expected_of_neighbour),
        ToleranceOf(c.type, true));
  }
}

// Head 0's scores are `score_of` an entry, to base e, by the keys' first number, which head 1 does
// not look at.
template <typename ScoreOf>
Matrix WithScores(const HeadShape& shape, int tokens, const ScoreOf& score_of) {
  Matrix qkv = Matrix::Random(tokens, shape.qkv_cols(), 14);
  for (int row = 0; row < tokens; ++row) {
    for (int col = 0; col <= shape.head_dim; ++col) qkv.at(row, col) = 0;
    qkv.at(row, 0) = 8;  // times the scale of 0.125: 1
    qkv.at(row, 2 * shape.head_dim) = score_of(row);
  }
  return qkv;
}

TEST_P(CudaAttentionTest, ScoresMayGrowAndFallAlongTheEntries) {
  constexpr int kTokens = 140;
  for (const int head_dim : {128, 256}) {
    const ShapeCase c{{.num_heads = 2, .num_kv_heads = 1, .head_dim = head_dim, .group_size = 2},
                      KvType::kBF16};
    std::vector<Matrix> of_head_1;
    const auto check = [&](const char* name, float (*score_of)(int)) {
      const Matrix qkv = WithScores(c.shape, kTokens, score_of);
      PagedCache cache = MakeCache(c, kTokens);
      const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), kTokens, true}});
      EXPECT_LE(LargestDifference(out, ReferenceAttention(qkv, c.shape, c.type, 0, 0.125)),
                ToleranceOf(c.type, true))
          << name << ", head_dim " << head_dim;
      Matrix rows(kTokens, head_dim);
      for (int row = 0; row < kTokens; ++row) {
        for (int col = 0; col < head_dim; ++col) rows.at(row, col) = out.at(row, head_dim + col);
      }
      of_head_1.push_back(rows);
    };
    check("level", [](int) { return 0.0f; });
    check("growing", [](int entry) { return 0.25f * static_cast<float>(entry); });
    check("falling", [](int entry) { return 64 - 0.25f * static_cast<float>(entry); });
    check("leaping", [](int entry) { return entry % 70 == 69 ? static_cast<float>(entry) : 0.0f; });
    check("far below zero", [](int entry) { return 0.25f * static_cast<float>(entry) - 1024; });
    // What one head's rows are rescaled by is nothing to the other's in the same warp.
    for (const Matrix& rows : of_head_1) EXPECT_EQ(rows, of_head_1[0]);
  }
}

TEST_P(CudaDecodeTest, GeneratedMatchesDoublePrecision) {
  for (const ShapeCase& c : kShapes) {
    for (int tokens : {1, 7, 17, 97}) {
      const int past = std::max(0, tokens - 5);
      const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 2);
      PagedCache cache = MakeCache(c, tokens);
      const int sequence = cache.AddSequence();
      AppendRows(cache, RowsOf(qkv, 0, past), {{sequence, past, true}});
      const Matrix out =
          RunAttention(cache, RowsOf(qkv, past, tokens), {{sequence, tokens - past, false}});
      const Matrix expected = ReferenceAttention(qkv, c.shape, c.type, 0, 0.125);
      EXPECT_LE(LargestDifference(out, RowsOf(expected, past, tokens)), kTolerance)
          << "head_dim " << c.shape.head_dim << ", " << tokens << " tokens";
      EXPECT_TRUE(out.GapsAreIntact());
    }
  }
}

TEST_P(CudaDecodeTest, SplitsOfALongSequenceMerge) {
  for (const ShapeCase& c : {kShapes[0], kInt8Shape}) {
    for (int tokens : {256, 258, 513}) {
      const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 3, 2.0f);
      const Matrix expected =
          RowsOf(ReferenceAttention(qkv, c.shape, c.type, 0, 0.125), tokens - 3, tokens);
      PagedCache cache = MakeCache(c, tokens);
      const int sequence = cache.AddSequence();
      AppendRows(cache, RowsOf(qkv, 0, tokens - 3), {{sequence, tokens - 3, true}});
      const Matrix last = RowsOf(qkv, tokens - 3, tokens);
      // The workspace has room for two rows at once.
      const Matrix out = RunAttention(cache, last, {{sequence, 3, false}}, {.workspace_rows = 2});
      EXPECT_LE(LargestDifference(out, expected), 2 * kTolerance) << tokens;
    }
  }
}

TEST_P(CudaAttentionTest, LargeScoresNeitherOverflowNorVanish) {
  const ShapeCase c{{.num_heads = 1, .num_kv_heads = 1, .head_dim = 64, .group_size = 1},
                    KvType::kF32};
  const Matrix qkv = Matrix::Random(60, c.shape.qkv_cols(), 4, 30.0f);
  const Matrix expected = ReferenceAttention(qkv, c.shape, c.type, 0, 0.125);
  for (bool is_prompt : {true, false}) {
    PagedCache cache = MakeCache(c, 60);
    const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), 60, is_prompt}});
    EXPECT_LE(LargestDifference(out, expected), 0.5f);  // values of 30 and scores of 1e4
  }
}

TEST_P(CudaAttentionTest, SlidingWindowReadsNoPageThatSlidOut) {
  const int tokens = 300;
  const int step = 5;
  for (const auto& [c, window] : {std::pair{kShapes[8], 1},
                                  {kGroups[2], 17},
                                  {kShapes[8], 100},
                                  {kInt8Shape, 100},
                                  {kGroups[8], 64},
                                  {kGroups[10], 150},
                                  {kGroups[2], 511}}) {
    const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 5);
    const Matrix expected = ReferenceAttention(qkv, c.shape, c.type, window, 0.125);
    for (bool is_prompt : {true, false}) {
      for (int begin : {0, 93, tokens - step}) {
        PagedCache cache = MakeCache(c, tokens);
        const int sequence = cache.AddSequence();
        AppendRows(cache, RowsOf(qkv, 0, begin), {{sequence, begin, true}});
        const int gone = std::max(0, begin + 1 - window) / kPageTokens;
        for (int head = 0; head < c.shape.num_kv_heads; ++head) {
          std::fill_n(cache.table(sequence, head).begin(), gone, 2000000000);  // would fault
        }
        const Matrix out = RunAttention(cache, RowsOf(qkv, begin, begin + step),
                                        {{sequence, step, is_prompt}}, {.sliding_window = window});
        EXPECT_LE(LargestDifference(out, RowsOf(expected, begin, begin + step)),
                  ToleranceOf(c.type, is_prompt))
            << "window " << window << ", rows from " << begin;
      }
    }
  }
}

TEST_P(CudaAttentionTest, BitsDependNeitherOnChunksNorOnNeighbours) {
  for (const auto& [c, window, tokens] : {std::tuple{kShapes[0], 0, 70},
                                          {kShapes[0], 40, 70},
                                          {kGroups[0], 0, 70},
                                          {kInt8Shape, 40, 70},
                                          {kGroups[7], 40, 70},
                                          {kGroups[9], 0, 70},
                                          {kGroups[3], 140, 290}}) {
    const Matrix qkv = Matrix::Random(tokens, c.shape.qkv_cols(), 6);
    for (bool is_prompt : {true, false}) {
      PagedCache alone = MakeCache(c, tokens);
      const Matrix whole = RunAttention(alone, qkv, {{alone.AddSequence(), tokens, is_prompt}},
                                        {.sliding_window = window});
      PagedCache cache = MakeCache(c, tokens, 2);
      const int sequence = cache.AddSequence();
      const int neighbour = cache.AddSequence();
      for (int begin = 0; begin < tokens;) {
        const int end = std::min(tokens, begin + 37);
        Matrix rows(end - begin + 2, qkv.cols());
        for (int row = 0; row < rows.rows(); ++row) {
          for (int col = 0; col < qkv.cols(); ++col) {
            rows.at(row, col) = row < 2 ? 1.0f : qkv.at(begin + row - 2, col);
          }
        }
        const Matrix out = RunAttention(
            cache, rows, {{neighbour, 2, !is_prompt}, {sequence, end - begin, is_prompt}},
            {.sliding_window = window});
        EXPECT_EQ(RowsOf(out, 2, out.rows()), RowsOf(whole, begin, end));
        begin = end;
      }
    }
  }
}

TEST_P(CudaAttentionTest, HeadsMayHoldDifferentNumbersOfEntries) {
  const HeadShape shape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 64, .group_size = 2};
  const Matrix past = Matrix::Random(90, shape.qkv_cols(), 10);
  const Matrix row = Matrix::Random(1, shape.qkv_cols(), 11);
  for (const auto& [type, is_prompt] : {std::pair{KvType::kF32, true},
                                        {KvType::kF16, true},
                                        {KvType::kInt8, true},
                                        {KvType::kF32, false},
                                        {KvType::kF16, false},
                                        {KvType::kInt8, false}}) {
    std::vector<Matrix> results;
    for (int length : {50, 90}) {
      PagedCache cache(shape, type, 32, stream_);
      AppendRows(cache, RowsOf(past, 0, length), {{cache.AddSequence(), length, true}});
      results.push_back(RunAttention(cache, row, {{0, 1, is_prompt}}));
    }
    PagedCache cache(shape, type, 32, stream_);
    AppendRows(cache, past, {{cache.AddSequence(), 90, true}});
    cache.GrowHead(0, 0, -40);  // the first head loses its last entries
    const Matrix out = RunAttention(cache, row, {{0, 1, is_prompt}});
    for (int col = 0; col < out.cols(); ++col) {
      EXPECT_EQ(out.at(0, col), results[col < 2 * 64 ? 0 : 1].at(0, col)) << "column " << col;
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
