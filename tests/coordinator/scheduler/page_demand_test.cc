#include "coordinator/scheduler/page_demand.h"

#include <algorithm>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/scheduler.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_worker.h"

namespace kvec::coordinator::scheduler {
namespace {

TEST(PageDemandTest, CountsFullPagesOfEveryHeadInFullLayers) {
  const PageDemand demand(3, {0, 0});
  EXPECT_EQ(demand.Held(0, 0), 0);
  EXPECT_EQ(demand.Held(1, 0), 6);
  EXPECT_EQ(demand.Held(16, 0), 6);
  EXPECT_EQ(demand.Held(17, 0), 12);
  EXPECT_EQ(demand.Held(17, 1), 6);
  EXPECT_EQ(demand.Peak(17, 512), 12);
  EXPECT_EQ(demand.Entries(17), 17 * 6);
  EXPECT_EQ(demand.OnePerHead(), 6);
}

TEST(PageDemandTest, KeepsTheLastPageOfASlidingWindowOfOne) {
  const PageDemand demand(1, {1});
  EXPECT_EQ(demand.Held(15, 0), 1);
  EXPECT_EQ(demand.Held(16, 0), 0);  // the next token sees itself only
  EXPECT_EQ(demand.HeldInStep(17, 1, 0), 1);
}

TEST(PageDemandTest, FreesAPageWhenTheNextTokenNoLongerSeesIt) {
  const PageDemand demand(1, {20});
  EXPECT_EQ(demand.Held(34, 0), 3);  // token 34 sees entries 15 …
  EXPECT_EQ(demand.Held(35, 0), 2);  // token 35 sees entries 16 …
  EXPECT_EQ(demand.HeldInStep(35, 1, 0), 3);
  EXPECT_EQ(demand.HeldOfFirst(2, 35), 1);
  EXPECT_EQ(demand.Entries(35), 19);
}

// The oracle allocates real pages, entry by entry.
TEST(PageDemandTest, EqualsThePageTablesOfAWorkerForRandomWindowsAndChunks) {
  std::mt19937 random(5);
  const auto uniform = [&](uint32_t least, uint32_t most) {
    return std::uniform_int_distribution<uint32_t>(least, most)(random);
  };
  for (int round = 0; round < 200; ++round) {
    WorkerCapacity capacity;
    capacity.total_pages = 100'000;
    capacity.num_kv_heads = uniform(1, 3);
    for (uint32_t layers = uniform(1, 4); layers > 0; --layers) {
      capacity.sliding_windows.push_back(uniform(0, 1) * uniform(1, 100));
    }
    FakeWorker worker(capacity, true);
    const PageDemand demand(capacity.num_kv_heads, capacity.sliding_windows);
    const uint32_t max_chunk = uniform(1, 60);
    uint64_t most_held = 0;
    v1::Step step;
    step.add_starts()->set_sequence_id(1);
    step.mutable_starts(0)->set_prompt_tokens(100'000);
    for (uint32_t rows = 0; rows < 300;) {
      const uint32_t chunk = uniform(1, max_chunk);
      v1::SequenceWork& work = *step.add_work();
      work.set_sequence_id(1);
      work.set_first_position(rows);
      work.set_is_prompt(true);
      for (uint32_t i = 0; i < chunk; ++i) work.add_token_ids(0);
      rows += chunk;
      const uint64_t held_in_step = demand.HeldInStep(rows, chunk, 0);
      most_held = std::max(most_held, held_in_step);
      const absl::StatusOr<v1::StepResult> result = worker.Execute(step);
      ASSERT_TRUE(result.ok()) << result.status();
      SCOPED_TRACE(absl::StrCat("round ", round, " rows ", rows, " chunk ", chunk));
      ASSERT_EQ(worker.most_pages_in_step(), held_in_step);
      ASSERT_EQ(capacity.total_pages - result->free_pages(), demand.Held(rows, 0));
      ASSERT_EQ(result->changed_pages(0).pages(), demand.Held(rows, 0));
      const uint64_t peak = demand.Peak(rows, max_chunk);
      ASSERT_GE(peak, most_held);
      // And not much more: a page per head.
      ASSERT_LE(peak, demand.HeldInStep(rows, std::min(rows, max_chunk), 0) + demand.OnePerHead());
      step.Clear();
    }
  }
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
