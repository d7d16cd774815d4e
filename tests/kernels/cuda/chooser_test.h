#ifndef KVEC_TESTS_KERNELS_CUDA_CHOOSER_TEST_H_
#define KVEC_TESTS_KERNELS_CUDA_CHOOSER_TEST_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/entry_chooser.h"
#include "tests/kernels/cuda/device_test.h"
#include "worker/eviction/policy.h"

namespace kvec::kernels::cuda {

using worker::eviction::Coverage;
using worker::eviction::GroupScore;
using worker::eviction::LayerScores;
using worker::eviction::Policy;
using worker::eviction::ScoreNeeds;

using Weights = std::vector<float>;  // rows of n numbers

inline constexpr int kFocusQueries = 3;  // whatever the policy's window is

// Rows of a layer that are joined over ranks.
inline int NumRows(const ScoreNeeds& needs, int num_kv_heads) {
  const int num_windows = static_cast<int>(needs.windows.size());
  return (needs.group_score == GroupScore::kNone ? 0 : num_windows * num_kv_heads) +
         (needs.focus_window > 0 ? kFocusQueries : 0);
}

// What the host's exchange makes of them.
struct HostScores {
  std::vector<Weights> heads;  // [windows][G, n]
  std::vector<float> focus;    // [n]
  LayerScores scores;

  HostScores(const HostScores&) = delete;
  HostScores(const ScoreNeeds& needs, const Weights& rows, int num_kv_heads, int n,
             int group_size) {
    auto row = rows.begin();
    for (size_t i = 0; needs.group_score != GroupScore::kNone && i < needs.windows.size(); ++i) {
      Weights& window = heads.emplace_back(row, row + num_kv_heads * n);
      row += num_kv_heads * n;
      if (needs.group_score != GroupScore::kMean) continue;
      for (float& mean : window) mean /= static_cast<float>(group_size);
    }
    focus.assign(needs.focus_window > 0 ? static_cast<size_t>(n) : 0, 0.0f);
    for (int query = 0; !focus.empty() && query < kFocusQueries; ++query) {
      for (float& sum : focus) sum += *row++;
    }
    for (float& mean : focus) mean /= static_cast<float>(kFocusQueries);
    scores.num_kv_heads = num_kv_heads;
    scores.num_candidates = n;
    for (const Weights& window : heads) scores.heads.push_back(window);
    scores.focus = focus;
  }
};

// Of a chooser's test; all heads are one rank's.
struct LayerSizes {
  int num_kv_heads = 0;
  int num_candidates = 0;
  int group_size = 1;

  HeadShape Shape() const {
    return {.num_heads = num_kv_heads * group_size,
            .num_kv_heads = num_kv_heads,
            .head_dim = 8,
            .group_size = group_size};
  }
};

// A test of a device's chooser, to which it gives the rows.
class ChooserTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    auto arena = device_->AllocateKvArena({.head_dim = 8, .type = KvType::kF32, .num_pages = 1});
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    const size_t query_bytes = kFocusQueries * kQueryCols * sizeof(float);
    auto queries = device_->Allocate(query_bytes);
    ASSERT_TRUE(queries.ok()) << queries.status();
    queries_ = *std::move(queries);
    const std::vector<uint8_t> zeros(query_bytes);
    ASSERT_TRUE(device_->Upload(zeros, queries_->data()).ok());
  }

  // A layer whose window scores nobody looks at.
  absl::StatusOr<RankWeights> ScoreLayer(const HeadShape& shape, int num_candidates,
                                         int num_windows = 1, int focus_window = 0) {
    const std::vector<int32_t> pages(static_cast<size_t>(num_candidates / kPageTokens + 1));
    const std::vector<HeadPages> heads(static_cast<size_t>(shape.num_kv_heads),
                                       {pages.data(), num_candidates});
    const std::vector<int32_t> candidates(static_cast<size_t>(shape.num_kv_heads), num_candidates);
    const std::vector<int32_t> visible(static_cast<size_t>(kFocusQueries * shape.num_kv_heads),
                                       num_candidates);
    const std::vector<int> windows(static_cast<size_t>(num_windows), 1);
    WindowScoreRequest request;
    request.queries = {static_cast<float*>(queries_->data()), kFocusQueries,
                       shape.head_dim * shape.num_heads, kQueryCols};
    request.num_queries = kFocusQueries;
    request.heads = heads;
    request.num_visible = visible;
    request.num_candidates = candidates;
    request.stride = num_candidates;
    request.windows = windows;
    request.focus_window = focus_window;
    return device_->chooser()->ScoreLayer(request, *arena_);
  }

  absl::Status UploadRows(const std::vector<float>& rows, absl::Span<uint8_t> to) {
    EXPECT_EQ(to.size(), rows.size() * sizeof(float));
    return device_->Upload({reinterpret_cast<const uint8_t*>(rows.data()), to.size()}, to.data());
  }

  absl::StatusOr<Choice> Choose(const Policy& policy, const LayerSizes& sizes,
                                const std::vector<Weights>& layers, const std::vector<int>& budgets,
                                const Coverage& before, int focus_queries = kFocusQueries) {
    const ScoreNeeds needs = policy.needs();
    const int num_windows = static_cast<int>(needs.windows.size());
    const int focus_window = needs.focus_window > 0 ? focus_queries : 0;
    const HeadShape shape = sizes.Shape();
    const RankHeadRange all{0, shape.num_heads, 0, shape.num_kv_heads};
    KVEC_RETURN_IF_ERROR(
        device_->chooser()->Begin({.rules = *policy.device_rules(sizes.num_kv_heads),
                                   .shape = shape,
                                   .ranks = absl::MakeConstSpan(&all, 1),
                                   .num_candidates = sizes.num_candidates,
                                   .num_windows = num_windows,
                                   .focus_window = focus_window,
                                   .num_layers_before = before.num_layers,
                                   .layers_selecting = absl::MakeConstSpan(before.layers_selecting),
                                   .layer_budgets = budgets}));
    for (const Weights& rows : layers) {
      KVEC_ASSIGN_OR_RETURN(const RankWeights to,
                            ScoreLayer(shape, sizes.num_candidates, num_windows, focus_window));
      EXPECT_EQ(to.mine.data(), to.all.data());
      if (!rows.empty()) KVEC_RETURN_IF_ERROR(UploadRows(rows, to.all));
      KVEC_RETURN_IF_ERROR(device_->chooser()->ChooseLayer());
    }
    return device_->chooser()->Finish();
  }

  static constexpr int kQueryCols = 8 * 32;

  std::unique_ptr<KvArena> arena_;
  std::unique_ptr<DeviceMemory> queries_;
};

}  // namespace kvec::kernels::cuda

#endif  // KVEC_TESTS_KERNELS_CUDA_CHOOSER_TEST_H_
