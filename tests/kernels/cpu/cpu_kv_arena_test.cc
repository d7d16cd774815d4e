#include "kernels/cpu/cpu_kv_arena.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/paged_attention.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::HasSubstr;

class AppendKvTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, AppendKvTest, kAllIsas, IsaTestName);

float StoredAt(KvType type, const uint8_t* numbers, int index) {
  if (type == KvType::kF32) return reinterpret_cast<const float*>(numbers)[index];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(numbers)[index];
  return type == KvType::kBF16 ? BFloat16ToFloat(bits) : HalfToFloat(bits);
}

TEST_P(AppendKvTest, StoresRoundedKeysByDimensionAndValuesByToken) {
  for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32}) {
    for (int head_dim : {8, 64, 72}) {
      const HeadShape shape{
          .num_heads = 4, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 2};
      PagedCache cache(shape, type, 16);
      cache.AddSequence();
      Matrix qkv = Matrix::Random(53, shape.qkv_cols(), 1);
      int begin = 0;
      for (int rows : {5, 1, 27, 20}) {  // across page borders
        Matrix chunk = RowsOf(qkv, begin, begin + rows);
        RunAttention(cache, chunk, {{0, rows, true}});
        begin += rows;
      }
      for (int entry = 0; entry < 53; ++entry) {
        for (int head = 0; head < 2; ++head) {
          const int32_t page = cache.table(0, head)[static_cast<size_t>(entry / kPageTokens)];
          const int token = entry % kPageTokens;
          for (int i = 0; i < head_dim; ++i) {
            const int k = (4 + head) * head_dim + i;
            ASSERT_EQ(StoredAt(type, cache.arena().keys(page), i * kPageTokens + token),
                      RoundTo(type, qkv.at(entry, k)));
            ASSERT_EQ(StoredAt(type, cache.arena().values(page), token * head_dim + i),
                      RoundTo(type, qkv.at(entry, k + 2 * head_dim)));
          }
          // Each call numbers its rows from 1000.
          EXPECT_EQ(cache.arena().positions(page)[token], 1000 + entry -
                                                              (entry < 5    ? 0
                                                               : entry < 6  ? 5
                                                               : entry < 33 ? 6
                                                                            : 33));
        }
      }
    }
  }
}

TEST_P(AppendKvTest, StoresInt8WithinHalfAStepOfTheLargestNumber) {
  for (int head_dim : {8, 64, 72, 256, 512}) {
    const HeadShape shape{.num_heads = 2, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 1};
    PagedCache cache(shape, KvType::kInt8, 8);
    Matrix qkv = Matrix::Random(53, shape.qkv_cols(), 1, 3.0f);
    for (int col = 0; col < qkv.cols(); ++col) qkv.at(7, col) = 0.0f;  // an entry without a scale
    RunAttention(cache, qkv, {{cache.AddSequence(), 53, true}});
    const Matrix stored = AsStored(cache, 0, qkv);
    for (int entry = 0; entry < 53; ++entry) {
      for (int head = 0; head < 2; ++head) {
        const int k = (2 + head) * head_dim;
        const int v = k + 2 * head_dim;
        double key_error = 0;
        double key_norm = 0;
        float largest_value = 0;
        for (int i = 0; i < head_dim; ++i) {
          key_error += std::pow(stored.at(entry, k + i) - qkv.at(entry, k + i), 2);
          key_norm += std::pow(qkv.at(entry, k + i), 2);
          largest_value = std::max(largest_value, std::fabs(qkv.at(entry, v + i)));
        }
        for (int i = 0; i < head_dim; ++i) {
          ASSERT_NEAR(stored.at(entry, v + i), qkv.at(entry, v + i), 0.502f / 127 * largest_value);
        }
        // No number of a rotated key is larger than its norm.
        EXPECT_LE(key_error, head_dim * key_norm * std::pow(0.502 / 127, 2));
        // And most are far smaller: random keys lose less than 1 % of their norm.
        EXPECT_LE(key_error, 1e-4 * key_norm);
      }
    }
  }
}

TEST_P(AppendKvTest, Int8SpreadsALargeDimension) {
  // Without the rotation all other numbers of such a key would be 0.
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 64, .group_size = 1};
  PagedCache cache(shape, KvType::kInt8, 1);
  Matrix qkv = Matrix::Random(1, shape.qkv_cols(), 2, 0.1f);
  qkv.at(0, 64 + 5) = 60.0f;
  RunAttention(cache, qkv, {{cache.AddSequence(), 1, true}});
  const Matrix stored = AsStored(cache, 0, qkv);
  EXPECT_NEAR(stored.at(0, 64 + 5), 60.0f, 0.15f);
  for (int i = 64; i < 128; ++i) EXPECT_NEAR(stored.at(0, i), qkv.at(0, i), 0.15f);
}

TEST_P(AppendKvTest, Int8KeepsNotANumberAndInfinity) {
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 16, .group_size = 1};
  for (float bad : {NAN, INFINITY, -INFINITY, 3e38f}) {
    for (int column : {16, 32}) {  // a key, a value
      PagedCache cache(shape, KvType::kInt8, 1);
      Matrix qkv = Matrix::Random(1, shape.qkv_cols(), 2);
      qkv.at(0, column) = bad;
      const Matrix out = RunAttention(cache, qkv, {{cache.AddSequence(), 1, false}});
      EXPECT_TRUE(std::isnan(out.at(0, 0))) << bad << " at " << column;
    }
  }
}

TEST_P(AppendKvTest, RoundsEveryKindOfNumberLikeTheScalarConversion) {
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 16, .group_size = 1};
  const float numbers[] = {0.0f,     -0.0f, 1.0f,     1.00390625f, 1.01171875f, 65504.0f,
                           65519.0f, 1e-7f, 3e-8f,    6.1e-5f,     -5.96e-8f,   3.3e38f,
                           1e5f,     -1e5f, INFINITY, -INFINITY};
  for (KvType type : {KvType::kBF16, KvType::kF16}) {
    PagedCache cache(shape, type, 1);
    cache.AddSequence();
    Matrix qkv(1, shape.qkv_cols());
    for (int i = 0; i < 16; ++i) qkv.at(0, 32 + i) = numbers[i];
    RunAttention(cache, qkv, {{0, 1, true}});
    for (int i = 0; i < 16; ++i) {
      EXPECT_EQ(StoredAt(type, cache.arena().values(0), i), RoundTo(type, numbers[i]))
          << numbers[i];
    }
  }
}

TEST_P(AppendKvTest, KeepsNotANumber) {
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 16, .group_size = 1};
  PagedCache cache(shape, KvType::kBF16, 1);
  cache.AddSequence();
  Matrix qkv(1, shape.qkv_cols());
  const uint32_t bits = 0x7FFFFFFF;  // rounding its bits up would give a zero
  std::memcpy(&qkv.at(0, 32), &bits, sizeof(bits));
  const Matrix out = RunAttention(cache, qkv, {{0, 1, true}});
  EXPECT_TRUE(std::isnan(StoredAt(KvType::kBF16, cache.arena().values(0), 0)));
  EXPECT_TRUE(std::isnan(out.at(0, 0)));
}

TEST(CpuKvArenaTest, CopiesPagesWithTheirPositions) {
  auto arena = CreateCpuKvArena({.head_dim = 8, .type = KvType::kF32, .num_pages = 3});
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::iota((*arena)->keys(1), (*arena)->keys(1) + 1024, uint8_t{3});
  std::iota((*arena)->positions(1), (*arena)->positions(1) + kPageTokens, 100);
  const std::vector<PageCopy> copies = {{1, 2}, {1, 1}};
  ASSERT_TRUE(CopyPages(**arena, copies).ok());
  EXPECT_EQ(std::vector<uint8_t>((*arena)->keys(2), (*arena)->keys(2) + 1024),
            std::vector<uint8_t>((*arena)->keys(1), (*arena)->keys(1) + 1024));
  EXPECT_EQ((*arena)->positions(2)[15], 115);
  EXPECT_EQ((*arena)->positions(0)[15], 0);
}

TEST(CpuKvArenaTest, RejectsPagesItHasNot) {
  auto arena = CreateCpuKvArena({.head_dim = 8, .type = KvType::kF32, .num_pages = 3});
  ASSERT_TRUE(arena.ok()) << arena.status();
  for (const PageCopy& copy : {PageCopy{0, 3}, PageCopy{-1, 0}}) {
    const absl::Status status = CopyPages(**arena, absl::MakeConstSpan(&copy, 1));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("among the arena's 3"));
  }
}

TEST(CpuKvArenaTest, CountsTheBytesOfNumbersAndScales) {
  const auto bytes = [](KvType type) {
    return KvArenaSpec{.head_dim = 64, .type = type}.page_bytes();
  };
  EXPECT_EQ(bytes(KvType::kF32), 2u * 16 * 64 * 4);
  EXPECT_EQ(bytes(KvType::kF16), 2u * 16 * 64 * 2);
  EXPECT_EQ(bytes(KvType::kInt8), 2u * 16 * (64 + 2));
}

TEST(CpuKvArenaTest, AlignsPagesToCacheLines) {
  for (int head_dim : {8, 72, 256}) {
    for (KvType type : {KvType::kBF16, KvType::kInt8}) {
      auto arena = CreateCpuKvArena({.head_dim = head_dim, .type = type, .num_pages = 5});
      ASSERT_TRUE(arena.ok()) << arena.status();
      for (int32_t page = 0; page < 5; ++page) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>((*arena)->keys(page)) % 64, 0u);
        EXPECT_EQ(reinterpret_cast<uintptr_t>((*arena)->values(page)) % 64, 0u);
      }
      EXPECT_GE((*arena)->bytes(), 5 * (*arena)->spec().page_bytes());
    }
  }
}

TEST(CpuKvArenaTest, RejectsSpecsThatMakeNoSense) {
  const auto message = [](const KvArenaSpec& spec) {
    return std::string(CreateCpuKvArena(spec).status().message());
  };
  EXPECT_THAT(message({.head_dim = 0, .num_pages = 1}), HasSubstr("head_dim: 0"));
  EXPECT_THAT(message({.head_dim = 12, .num_pages = 1}), HasSubstr("head_dim: 12"));
  EXPECT_THAT(message({.head_dim = 520, .num_pages = 1}), HasSubstr("head_dim: 520"));
  EXPECT_THAT(message({.head_dim = 64, .num_pages = 0}), HasSubstr("num_pages: 0"));
  EXPECT_THAT(message({.head_dim = 64, .num_pages = int64_t{1} << 31}),
              HasSubstr("num_pages: 2147"));
  EXPECT_EQ(CreateCpuKvArena({.head_dim = 512, .type = KvType::kF32, .num_pages = 2147483647})
                .status()
                .code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace kvec::kernels::cpu
