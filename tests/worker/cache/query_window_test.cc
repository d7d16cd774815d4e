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

TEST(QueryWindow, KeepsTheLastQueriesOfAPromptInAnyChunks) {
  auto device = kernels::cpu::CpuDevice::Create({.num_threads = 1});
  ASSERT_TRUE(device.ok()) << device.status();
  for (int chunk : {1, 5, 16, 100}) {
    for (int num_queries : {1, 8, 32, 50}) {
      constexpr int kPrompt = 50;
      // The prompt and three generated tokens; every number is another.
      std::vector<float> rows((kPrompt + 3) * kStride);
      auto window = QueryWindow::Create(**device, kLayers, kCols, kPrompt, num_queries);
      ASSERT_TRUE(window.ok()) << window.status();
      for (int layer = 0; layer < kLayers; ++layer) {
        std::iota(rows.begin(), rows.end(), 1000.0f * static_cast<float>(layer));
        for (int begin = 0; begin < kPrompt + 3; begin += chunk) {
          const int count = std::min(chunk, kPrompt + 3 - begin);
          const kernels::Tensor queries{rows.data() + begin * kStride, count, kCols, kStride};
          ASSERT_TRUE((*window)->Store(**device, layer, begin, queries).ok());
        }
      }
      for (int layer = 0; layer < kLayers; ++layer) {
        const kernels::Tensor kept = (*window)->Layer(layer);
        ASSERT_EQ(kept.rows, num_queries);
        for (int row = 0; row < num_queries; ++row) {
          for (int col = 0; col < kCols; ++col) {
            const int at = (kPrompt - num_queries + row) * kStride + col;
            ASSERT_EQ(kept.data[row * kept.stride + col], static_cast<float>(1000 * layer + at));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvec::worker::cache
