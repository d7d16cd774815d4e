#include "worker/cache/query_window.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"

namespace kvec::worker::cache {
namespace {

constexpr int kCols = 6;
constexpr int kStride = 10;  // queries lie beside keys and values
constexpr int kLayers = 2;

TEST(QueryWindow, KeepsTheLastQueriesInAnyChunks) {
  auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  for (int chunk : {1, 5, 16, 100}) {
    for (int num_queries : {1, 8, 32, 50}) {
      constexpr int kTokens = 53;
      std::vector<float> rows(kTokens * kStride);  // every number is another
      auto window = QueryWindow::Create(
          **device, {.num_layers = kLayers, .query_cols = kCols, .capacity = num_queries});
      ASSERT_TRUE(window.ok()) << window.status();
      for (int layer = 0; layer < kLayers; ++layer) {
        std::iota(rows.begin(), rows.end(), 1000.0f * static_cast<float>(layer));
        for (int begin = 0; begin < kTokens; begin += chunk) {
          const int count = std::min(chunk, kTokens - begin);
          const kernels::Tensor queries{rows.data() + begin * kStride, count, kCols, kStride};
          std::vector<kernels::KeptRow> kept;
          (*window)->Keep(begin, 0, count, kept);
          ASSERT_EQ(static_cast<int>(kept.size()), std::min(count, num_queries));
          ASSERT_TRUE((*device)->KeepRows(queries, kept, layer).ok());
        }
      }
      for (int layer = 0; layer < kLayers; ++layer) {
        const kernels::Tensor kept = (*window)->Layer(layer);
        ASSERT_EQ(kept.rows, num_queries);
        for (int position = kTokens - num_queries; position < kTokens; ++position) {
          const float* row = kept.data + (*window)->RowOf(position) * kept.stride;
          for (int col = 0; col < kCols; ++col) {
            ASSERT_EQ(row[col], static_cast<float>(1000 * layer + position * kStride + col));
          }
        }
      }
    }
  }
}

TEST(QueryWindow, DoesNotStoreQueriesBeforeTheFirstThatCounts) {
  auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  auto window = QueryWindow::Create(
      **device, {.num_layers = 1, .query_cols = 1, .capacity = 4, .first_position = 6});
  ASSERT_TRUE(window.ok()) << window.status();
  const kernels::Tensor kept = (*window)->Layer(0);
  std::fill_n(kept.data, 4, -1.0f);
  std::vector<float> rows = {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<kernels::KeptRow> kept_rows;
  (*window)->Keep(0, 0, 8, kept_rows);
  ASSERT_TRUE((*device)->KeepRows({rows.data(), 8, 1, 1}, kept_rows, 0).ok());
  EXPECT_EQ(std::vector<float>(kept.data, kept.data + 4), (std::vector<float>{-1, -1, 6, 7}));
}

}  // namespace
}  // namespace kvec::worker::cache
