#include "kernels/cuda/append_kv.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

class CudaAppendKvTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Orders, CudaAppendKvTest, kAllOrders, OrderName);

// The entry's numbers times their scale, an f16 of the largest magnitude / 127, against `expected`.
template <typename Function>
void CheckRounded(const PagedCache& cache, int entry, int head, bool is_value,
                  const Function& expected) {
  const int head_dim = cache.shape().head_dim;
  const double scale = cache.Scale(0, head, entry, is_value);
  double largest = 0;
  for (int i = 0; i < head_dim; ++i) largest = std::max(largest, std::abs(expected(i)));
  ASSERT_NEAR(scale, largest / 127, std::ldexp(scale, -11) + 1e-7);
  for (int i = 0; i < head_dim; ++i) {
    // The scale's own rounding, 2^-11 of it, may leave the largest number beyond 127.
    ASSERT_NEAR(cache.Int8(0, head, entry, is_value, i) * scale, expected(i),
                0.5 * scale + 1e-5 * std::abs(expected(i)) + 1e-7);
  }
}

// A row's head, normed and turned, in double precision.
std::vector<double> Turned(const Matrix& qkv, int row, int first_col, const Matrix* weight,
                           const Matrix& angles, RopePairing pairing) {
  const int head_dim = angles.cols();
  const int half = head_dim / 2;
  std::vector<double> head;
  double squares = 0;
  for (int i = 0; i < head_dim; ++i) {
    head.push_back(qkv.at(row, first_col + i));
    squares += head.back() * head.back();
  }
  for (int i = 0; i < head_dim && weight != nullptr; ++i) {
    head[static_cast<size_t>(i)] *= weight->at(0, i) / std::sqrt(squares / head_dim + 1e-6);
  }
  for (int i = 0; i < half; ++i) {
    const bool halves = pairing == RopePairing::kHalves;
    double& x = head[static_cast<size_t>(halves ? i : 2 * i)];
    double& y = head[static_cast<size_t>(halves ? i + half : 2 * i + 1)];
    const double cosine = angles.at(row, i);
    const double sine = angles.at(row, half + i);
    const double turned = x * cosine - y * sine;
    y = y * cosine + x * sine;
    x = turned;
  }
  return head;
}

TEST_P(CudaAppendKvTest, TurnsQueriesInPlaceAndKeysOnTheirWay) {
  for (int head_dim : {64, 80, 96, 128, 256}) {
    const HeadShape shape{.num_heads = 5, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 3};
    const Matrix qkv = Matrix::Random(3, shape.qkv_cols(), 1);
    const Matrix angles = Matrix::Random(3, head_dim, 2);
    const Matrix weight = Matrix::Random(1, head_dim, 3);
    DeviceMatrix device_angles(angles, stream_);
    DeviceMatrix device_weight(weight, stream_);
    const float* const norm = device_weight.tensor().data;
    for (RopePairing pairing : {RopePairing::kHalves, RopePairing::kInterleaved}) {
      for (const bool norms_keys : {false, true}) {  // or queries
        PagedCache cache(shape, KvType::kF32, 4, stream_);
        AppendedRows rows(cache, qkv,
                          {{cache.AddSequence(), 2, true}, {cache.AddSequence(), 1, false}},
                          {.norm = {.q_weight = norms_keys ? nullptr : norm,
                                    .k_weight = norms_keys ? norm : nullptr,
                                    .eps = 1e-6f},
                           .angles = device_angles.tensor(),
                           .pairing = pairing});
        const Matrix turned = rows.Heads();
        for (int row = 0; row < 3; ++row) {
          for (int head = 0; head < 7; ++head) {
            const bool is_key = head >= 5;
            const std::vector<double> expected =
                Turned(qkv, row, head * head_dim, is_key == norms_keys ? &weight : nullptr, angles,
                       pairing);
            for (int i = 0; i < head_dim; ++i) {
              ASSERT_NEAR(is_key ? cache.Number(row / 2, head - 5, row % 2, false, i)
                                 : turned.at(row, head * head_dim + i),
                          expected[static_cast<size_t>(i)], 1e-5)
                  << "head_dim " << head_dim << " head " << head;
            }
          }
          for (int i = 0; i < 2 * head_dim; ++i) {
            ASSERT_EQ(cache.Number(row / 2, i / head_dim, row % 2, true, i % head_dim),
                      qkv.at(row, 7 * head_dim + i));
          }
        }
        EXPECT_TRUE(turned.GapsAreIntact());
      }
    }
  }
}

TEST_P(CudaAppendKvTest, StoresKeysValuesAndPositionsOfEveryHead) {
  const HeadShape shape{.num_heads = 4, .num_kv_heads = 2, .head_dim = 80, .group_size = 2};
  for (KvType type : {KvType::kBF16, KvType::kF16, KvType::kF32}) {
    PagedCache cache(shape, type, 16, stream_);
    const int first = cache.AddSequence();
    const int second = cache.AddSequence();
    AppendRows(cache, Matrix::Random(21, shape.qkv_cols(), 1), {{second, 21, true}});
    const Matrix qkv = Matrix::Random(20, shape.qkv_cols(), 2);
    AppendRows(cache, qkv, {{first, 17, true}, {second, 3, false}});
    for (int row = 0; row < 20; ++row) {
      const int sequence = row < 17 ? first : second;
      const int entry = row < 17 ? row : 21 + row - 17;
      for (int head = 0; head < 2; ++head) {
        EXPECT_EQ(cache.Position(sequence, head, entry), kFirstPosition + row);
        for (int i = 0; i < shape.head_dim; ++i) {
          const int k = (4 + head) * shape.head_dim + i;
          const int v = (6 + head) * shape.head_dim + i;
          ASSERT_EQ(cache.Number(sequence, head, entry, false, i),
                    cpu::RoundTo(type, qkv.at(row, k)));
          ASSERT_EQ(cache.Number(sequence, head, entry, true, i),
                    cpu::RoundTo(type, qkv.at(row, v)));
        }
      }
    }
  }
}

// Rounding to the nearest number of a scale errs by half of it; the rotation keeps lengths, so that
// a key's error is at most half a scale in each of its head_dim directions.
TEST_P(CudaAppendKvTest, Int8HoldsValuesAndRotatedKeysToHalfAScale) {
  for (const int head_dim : {16, 80, 96, 128, 256}) {
    const HeadShape shape{.num_heads = 2, .num_kv_heads = 2, .head_dim = head_dim, .group_size = 1};
    PagedCache cache(shape, KvType::kInt8, 16, stream_);
    Matrix qkv = Matrix::Random(35, shape.qkv_cols(), 3);
    for (int col = 0; col < qkv.cols(); ++col) qkv.at(4, col) = 0;
    qkv.at(5, 2 * head_dim + 3) = 200;  // a key's outlier
    qkv.at(6, 4 * head_dim + 3) = 200;  // a value's
    AppendRows(cache, qkv, {{cache.AddSequence(), 35, true}});
    for (int row = 0; row < qkv.rows(); ++row) {
      for (int head = 0; head < 2; ++head) {
        EXPECT_EQ(cache.Position(0, head, row), kFirstPosition + row);
        const auto key = [&](int i) { return double{qkv.at(row, (2 + head) * head_dim + i)}; };
        const auto value = [&](int i) { return double{qkv.at(row, (4 + head) * head_dim + i)}; };
        const auto rotated = [&](int i) { return Rotated(head_dim, i, key); };
        CheckRounded(cache, row, head, false, rotated);
        CheckRounded(cache, row, head, true, value);
        double squares = 0;
        for (int i = 0; i < head_dim; ++i) {
          squares += std::pow(cache.Number(0, head, row, false, i) - key(i), 2);
        }
        const double scale = cache.Scale(0, head, row, false);
        EXPECT_LE(std::sqrt(squares), 0.5001 * scale * std::sqrt(head_dim));
      }
    }
  }
}

TEST_P(CudaAppendKvTest, Int8ShowsWhatIsNotFinite) {
  const HeadShape shape{.num_heads = 1, .num_kv_heads = 1, .head_dim = 64, .group_size = 1};
  PagedCache cache(shape, KvType::kInt8, 4, stream_);
  Matrix qkv = Matrix::Random(3, shape.qkv_cols(), 4);
  qkv.at(0, 64 + 9) = std::numeric_limits<float>::quiet_NaN();
  qkv.at(1, 128 + 9) = std::numeric_limits<float>::infinity();
  AppendRows(cache, qkv, {{cache.AddSequence(), 3, true}});
  for (const bool is_value : {false, true}) {
    for (int row = 0; row < 3; ++row) {
      EXPECT_EQ(std::isfinite(cache.Scale(0, 0, row, is_value)), row != (is_value ? 1 : 0));
    }
  }
}

}  // namespace
}  // namespace kvec::kernels::cuda
