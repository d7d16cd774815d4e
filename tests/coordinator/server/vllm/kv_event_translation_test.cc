#include "coordinator/server/vllm/kv_event_translation.h"

#include <array>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::server::vllm {
namespace {

using ::smg::grpc::common::KvBlocksStored;
using ::smg::grpc::common::KvEventBatch;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;
using Event = scheduler::PrefixEvent;

Event Stored(uint64_t id, uint64_t parent_id, int32_t value) {
  Event event{.kind = Event::Kind::kStored, .block_id = id, .parent_id = parent_id, .tokens = {}};
  event.tokens.fill(value);
  return event;
}

Event Removed(uint64_t id) { return {.kind = Event::Kind::kRemoved, .block_id = id}; }

KvEventBatch Translate(KvEventTranslation& translation, const std::vector<Event>& events) {
  return translation.Translate(events, absl::FromUnixMillis(1500));
}

TEST(KvEventTranslationTest, ChainsAreOneEventEach) {
  KvEventTranslation translation(0);
  const KvEventBatch batch =
      Translate(translation, {Event(), Stored(1, 0, 10), Stored(2, 1, 20), Stored(3, 1, 30)});
  EXPECT_EQ(batch.timestamp(), 1.5);
  ASSERT_EQ(batch.events_size(), 3);
  EXPECT_TRUE(batch.events(0).has_cleared());
  const KvBlocksStored& chain = batch.events(1).stored();
  ASSERT_EQ(chain.blocks_size(), 2);
  EXPECT_FALSE(chain.has_parent_block_hash());
  EXPECT_THAT(chain.blocks(0).token_ids(), SizeIs(16));
  EXPECT_THAT(chain.blocks(0).token_ids(), Each(10));
  EXPECT_EQ(chain.blocks(0).block_size(), 16);
  const KvBlocksStored& branch = batch.events(2).stored();
  ASSERT_EQ(branch.blocks_size(), 1);
  EXPECT_EQ(branch.parent_block_hash(), chain.blocks(0).block_hash());
}

TEST(KvEventTranslationTest, AChainGoesOnInTheNextBatch) {
  KvEventTranslation translation(0);
  const KvEventBatch first = Translate(translation, {Stored(1, 0, 10)});
  const KvEventBatch second = Translate(translation, {Stored(2, 1, 20)});
  ASSERT_EQ(second.events_size(), 1);
  EXPECT_EQ(second.events(0).stored().parent_block_hash(),
            first.events(0).stored().blocks(0).block_hash());
}

TEST(KvEventTranslationTest, BatchesAndEventsAreNumbered) {
  KvEventTranslation fresh(0);
  EXPECT_EQ(Translate(fresh, {Event()}).sequence_number(), 1);
  EXPECT_EQ(Translate(fresh, {Event()}).sequence_number(), 2);
  KvEventTranslation again(17);
  const KvEventBatch batch = Translate(again, {Event(), Stored(1, 0, 1)});
  EXPECT_EQ(batch.sequence_number(), 17);
  EXPECT_EQ(batch.events(1).event_id(), 2);
}

TEST(KvEventTranslationTest, EqualTokensAfterEqualTokensHaveEqualHashes) {
  KvEventTranslation one(0);
  KvEventTranslation other(0);
  const KvEventBatch a = Translate(one, {Stored(1, 0, 10), Stored(2, 1, 20), Stored(3, 0, 20)});
  const KvEventBatch b = Translate(other, {Stored(8, 0, 10), Stored(9, 8, 20)});
  const int64_t after_ten = a.events(0).stored().blocks(1).block_hash();
  EXPECT_EQ(b.events(0).stored().blocks(1).block_hash(), after_ten);
  EXPECT_NE(a.events(1).stored().blocks(0).block_hash(), after_ten);
}

TEST(KvEventTranslationTest, RemovesByHashWhatItHasTold) {
  KvEventTranslation translation(0);
  const KvEventBatch stored = Translate(translation, {Stored(1, 0, 10), Stored(2, 1, 20)});
  const KvEventBatch removed = Translate(translation, {Removed(2), Removed(1), Removed(1)});
  ASSERT_EQ(removed.events_size(), 1);
  EXPECT_THAT(removed.events(0).removed().block_hashes(),
              ElementsAre(stored.events(0).stored().blocks(1).block_hash(),
                          stored.events(0).stored().blocks(0).block_hash()));
}

TEST(KvEventTranslationTest, ANewBeginningForgetsTheOldBlocks) {
  KvEventTranslation translation(0);
  const KvEventBatch before = Translate(translation, {Stored(1, 0, 10), Stored(2, 1, 20)});
  // A new group of workers: its index counts from 1 again.
  const KvEventBatch after = Translate(translation, {Event(), Stored(1, 0, 30), Stored(2, 1, 20)});
  EXPECT_NE(after.events(1).stored().blocks(1).block_hash(),
            before.events(0).stored().blocks(1).block_hash());
}

}  // namespace
}  // namespace kvec::coordinator::server::vllm
