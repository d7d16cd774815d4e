#include "coordinator/scheduler/page_ledger.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kMaxChunkRows = 64;

WorkerCapacity Capacity(uint64_t total_pages, uint32_t num_kv_heads,
                        std::vector<uint32_t> sliding_windows) {
  WorkerCapacity capacity;
  capacity.total_pages = total_pages;
  capacity.page_bytes = 160;
  capacity.num_kv_heads = num_kv_heads;
  capacity.sliding_windows = std::move(sliding_windows);
  return capacity;
}

// One head, one full layer: a page per 16 rows.
PageLedger OneHead(uint64_t total_pages) {
  return PageLedger({Capacity(total_pages, 1, {0})}, kMaxChunkRows);
}

TEST(PageLedgerTest, ChargesAPromptAsAWholeBeforeItIsFed) {
  PageLedger ledger = OneHead(10);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 100}, 0));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(7));
  ASSERT_TRUE(ledger.Grow(1, 50));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(7));
  EXPECT_FALSE(ledger.Reserve(2, {.num_rows = 49}, 0));
  EXPECT_TRUE(ledger.Reserve(2, {.num_rows = 48}, 0));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(10));
}

TEST(PageLedgerTest, PlansOnTheTightestWorker) {
  PageLedger ledger({Capacity(100, 1, {0}), Capacity(5, 1, {0}), Capacity(10, 3, {0})},
                    kMaxChunkRows);
  EXPECT_TRUE(ledger.Reserve(1, {.num_rows = 16 * 3}, 0));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3, 3, 9));
  EXPECT_FALSE(ledger.Reserve(2, {.num_rows = 1}, 0));
  ASSERT_TRUE(ledger.Grow(1, 48));
  EXPECT_FALSE(ledger.Grow(1, 1));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3, 3, 9));
}

TEST(PageLedgerTest, KeepsAShareFreeWhenAsked) {
  PageLedger ledger = OneHead(100);
  EXPECT_FALSE(ledger.Reserve(1, {.num_rows = 16 * 91}, 0.1));
  EXPECT_TRUE(ledger.Reserve(1, {.num_rows = 16 * 90}, 0.1));
}

TEST(PageLedgerTest, NamesTheWorkerThatASequenceCanNeverFit) {
  PageLedger ledger({Capacity(100, 1, {0}), Capacity(5, 1, {0})}, kMaxChunkRows);
  EXPECT_TRUE(ledger.CheckFits({.num_rows = 80}).ok());
  const absl::Status status = ledger.CheckFits({.num_rows = 81});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("6 needed for 81 tokens on worker 1"));
  EXPECT_FALSE(ledger.CheckFits({.num_rows = 80, .num_forks = 1}).ok());
}

TEST(PageLedgerTest, GivesReleasedPagesToTheSameStep) {
  PageLedger ledger = OneHead(4);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 64}, 0));
  EXPECT_FALSE(ledger.Reserve(2, {.num_rows = 64}, 0));
  ledger.Release(1);
  EXPECT_TRUE(ledger.Reserve(2, {.num_rows = 64}, 0));
}

TEST(PageLedgerTest, KeepsPagesThatSlideOutUntilTheStepEnds) {
  // Window 16: in a Step that adds row 33, the two pages before it are still held.
  PageLedger ledger({Capacity(4, 1, {16})}, kMaxChunkRows);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 31}, 0));
  ASSERT_TRUE(ledger.Grow(1, 31));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(1));
  ASSERT_TRUE(ledger.Grow(1, 1));
  ASSERT_TRUE(ledger.Reserve(2, {.num_rows = 48}, 0));
  EXPECT_FALSE(ledger.Reserve(3, {.num_rows = 1}, 0));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(1 + 3));
}

TEST(PageLedgerTest, SharesAPromptsPagesBetweenForks) {
  PageLedger ledger = OneHead(100);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 40, .num_forks = 2}, 0));
  ASSERT_TRUE(ledger.Grow(1, 40));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3 + 2));
  ledger.Fork(1, 2);
  ledger.Fork(1, 3);
  ledger.EndForks(1);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(2 + 3));  // two shared, one of each
  ASSERT_TRUE(ledger.Grow(2, 9));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(2 + 1 + 2 + 1));
  ledger.Release(1);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(2 + 2 + 1));
  ledger.Release(2);
  ledger.Release(3);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(0));
}

TEST(PageLedgerTest, FreesTheReserveOfForksThatAreNotMade) {
  PageLedger ledger = OneHead(100);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 32, .num_forks = 5}, 0));
  ASSERT_TRUE(ledger.Grow(1, 32));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(7));
  ledger.EndForks(1);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(2));
}

TEST(PageLedgerTest, ChargesAPromptUntilEveryWorkerReportsItsEviction) {
  PageLedger ledger({Capacity(100, 1, {0}), Capacity(100, 1, {0})}, kMaxChunkRows);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 160}, 0));
  ASSERT_TRUE(ledger.Grow(1, 160));
  ledger.Evict(1);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(10, 10));
  EXPECT_TRUE(ledger.AwaitsEviction(1));
  ledger.OnSequencePages(0, 1, 2, 160);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(2, 10));
  EXPECT_TRUE(ledger.AwaitsEviction(1));
  ledger.OnSequencePages(1, 1, 4, 160);
  EXPECT_FALSE(ledger.AwaitsEviction(1));
  ASSERT_TRUE(ledger.Grow(1, 1));  // which head's page is full, only the worker knows
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3, 5));
  ASSERT_TRUE(ledger.Grow(1, 1));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3, 5));
  ledger.OnSequencePages(0, 1, 2, 161);
  ledger.OnSequencePages(0, 1, 2, 162);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(2, 5));
}

TEST(PageLedgerTest, IgnoresReportsFromBeforeTheEviction) {
  PageLedger ledger = OneHead(100);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 160}, 0));
  ASSERT_TRUE(ledger.Grow(1, 100));
  ASSERT_TRUE(ledger.Grow(1, 60));
  ledger.Evict(1);
  ledger.EndStep();
  ledger.OnSequencePages(0, 1, 7, 100);
  EXPECT_TRUE(ledger.AwaitsEviction(1));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(10));
}

TEST(PageLedgerTest, SharesAnEvictedPrompt) {
  PageLedger ledger = OneHead(100);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 160, .num_forks = 1}, 0));
  ASSERT_TRUE(ledger.Grow(1, 160));
  ledger.Evict(1);
  ledger.EndStep();
  ledger.OnSequencePages(0, 1, 3, 160);
  ledger.Fork(1, 2);
  ledger.EndForks(1);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3 + 2));
  ASSERT_TRUE(ledger.Grow(2, 17));
  EXPECT_THAT(ledger.EndStep(), ElementsAre(3 + 1 + 3));
  ledger.Release(1);
  ledger.Release(2);
  EXPECT_THAT(ledger.EndStep(), ElementsAre(0));
}

TEST(PageLedgerTest, TakesPagesThatAWorkerUsesUnforeseenOffTheFreeOnes) {
  PageLedger ledger = OneHead(10);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 32}, 0));
  ASSERT_TRUE(ledger.Grow(1, 32));
  const uint64_t used_at_most = ledger.EndStep()[0];
  ASSERT_TRUE(ledger.OnFreePages(0, 5, used_at_most).ok());
  EXPECT_THAT(ledger.reported_free_pages(), ElementsAre(5));
  EXPECT_FALSE(ledger.Reserve(2, {.num_rows = 16 * 6}, 0));
  EXPECT_TRUE(ledger.Reserve(2, {.num_rows = 16 * 5}, 0));
}

TEST(PageLedgerTest, RefusesImpossibleReports) {
  PageLedger ledger = OneHead(10);
  EXPECT_EQ(ledger.OnFreePages(0, 11, 0).code(), absl::StatusCode::kInternal);
  // A leak.
  EXPECT_EQ(ledger.OnFreePages(0, 9, 0).code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(ledger.OnFreePages(0, 10, 0).ok());
  ledger.OnSequencePages(0, 77, 5, 5);  // unknown: freed meanwhile
  EXPECT_THAT(ledger.EndStep(), ElementsAre(0));
}

TEST(PageLedgerTest, CountsTheBytesOfSharedPagesOnce) {
  PageLedger ledger = OneHead(100);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 40, .num_forks = 1}, 0));
  ASSERT_TRUE(ledger.Grow(1, 40));
  ledger.EndStep();
  ledger.Fork(1, 2);
  ledger.EndForks(1);
  ASSERT_TRUE(ledger.Grow(1, 2));
  ASSERT_TRUE(ledger.Grow(2, 2));
  ledger.EndStep();
  ledger.OnSequencePages(0, 1, 3, 42);
  const PageLedger::Bytes first = ledger.TakeBytes(1);
  EXPECT_EQ(first.pages, 3 * 160);
  EXPECT_EQ(first.entries, 42 * 10);
  const PageLedger::Bytes second = ledger.TakeBytes(2);
  EXPECT_EQ(second.pages, 160);
  EXPECT_EQ(second.entries, 2 * 10);
  EXPECT_EQ(ledger.TakeBytes(3).pages, 0);
}

TEST(PageLedgerTest, CountsTheEntriesThatAnEvictionKept) {
  PageLedger ledger = OneHead(100);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 40}, 0));
  ASSERT_TRUE(ledger.Grow(1, 40));
  ledger.Evict(1);
  ledger.EndStep();
  ledger.OnSequencePages(0, 1, 1, 40);
  ledger.OnEviction(0, 1, 12, 40);
  ASSERT_TRUE(ledger.Grow(1, 1));
  ledger.EndStep();
  const PageLedger::Bytes bytes = ledger.TakeBytes(1);
  EXPECT_EQ(bytes.pages, 160);
  EXPECT_EQ(bytes.entries, 13 * 10);
}

TEST(PageLedgerTest, CountsTheEntriesOfAHeadOnTwoRanksOnce) {
  // KV heads 0 and 1, and 1 and 2; a layer of each kind.
  std::vector<WorkerCapacity> ranks = {Capacity(100, 2, {0, 16}), Capacity(100, 2, {0, 16})};
  ranks[1].num_repeated_kv_heads = 1;
  PageLedger ledger(ranks, kMaxChunkRows);
  ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 40}, 0));
  ASSERT_TRUE(ledger.Grow(1, 40));
  ledger.EndStep();
  EXPECT_EQ(ledger.TakeBytes(1).entries, 3 * (40 + 15) * 10);
  ledger.Evict(1);
  ledger.OnEviction(0, 1, 25, 40);
  ledger.OnEviction(1, 1, 11, 40);
  ASSERT_TRUE(ledger.Grow(1, 4));
  ledger.EndStep();
  EXPECT_EQ(ledger.TakeBytes(1).entries, (25 + 11 + 3 * (4 + 15)) * 10);
}

TEST(PageLedgerTest, WhicheverForkEndsFirstCountsWhatTheEvictionKept) {
  for (uint64_t first : {1, 2}) {
    PageLedger ledger = OneHead(100);
    ASSERT_TRUE(ledger.Reserve(1, {.num_rows = 40, .num_forks = 1}, 0));
    ASSERT_TRUE(ledger.Grow(1, 40));
    ledger.Evict(1);
    ledger.EndStep();
    ledger.OnSequencePages(0, 1, 1, 40);
    ledger.OnEviction(0, 1, 12, 40);
    ledger.Fork(1, 2);
    ledger.EndForks(1);
    ASSERT_TRUE(ledger.Grow(1, 2));
    ASSERT_TRUE(ledger.Grow(2, 2));
    ledger.EndStep();
    EXPECT_EQ(ledger.TakeBytes(first).entries, (12 + 2) * 10);
    EXPECT_EQ(ledger.TakeBytes(3 - first).entries, 2 * 10);
  }
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
