#include "coordinator/scheduler/prefix_feed.h"

#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "coordinator/scheduler/prefix_index.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = PrefixEvent::Kind;

std::array<int32_t, kPageTokens> Tokens(int32_t value) {
  std::array<int32_t, kPageTokens> tokens;
  tokens.fill(value);
  return tokens;
}

PrefixEvent Stored(uint64_t id, uint64_t parent_id, int32_t value) {
  return {Kind::kStored, id, parent_id, Tokens(value)};
}

PrefixEvent Removed(uint64_t id) { return {.kind = Kind::kRemoved, .block_id = id}; }

std::vector<PrefixEvent> TakeAll(PrefixFeed& feed) { return feed.Take(1 << 30); }

class PrefixFeedTest : public ::testing::Test {
 protected:
  std::shared_ptr<PrefixFeed> Subscribe() {
    auto feed = std::make_shared<PrefixFeed>([this] { ++num_wakes_; });
    EXPECT_TRUE(feeds_.Add(feed).ok());
    return feed;
  }

  PrefixFeeds feeds_;
  int num_wakes_ = 0;
};

TEST_F(PrefixFeedTest, WakesWhenThereIsSomethingAfterThereWasNothing) {
  const auto feed = Subscribe();
  feed->Add({});
  EXPECT_EQ(num_wakes_, 0);
  feed->Add({Removed(1), Removed(2)});
  feed->Add({Removed(3)});
  EXPECT_EQ(num_wakes_, 1);
  EXPECT_THAT(feed->Take(2), ElementsAre(Removed(1), Removed(2)));
  feed->Add({Removed(4)});
  EXPECT_EQ(num_wakes_, 1);
  EXPECT_THAT(feed->Take(2), ElementsAre(Removed(3), Removed(4)));
  EXPECT_THAT(feed->Take(2), IsEmpty());
  feed->Add({Removed(5)});
  EXPECT_EQ(num_wakes_, 2);
}

TEST_F(PrefixFeedTest, ARestartReplacesWhatWasNotTaken) {
  const auto feed = Subscribe();
  feed->Add({Removed(1)});
  feed->Restart({Stored(7, 0, 1)});
  EXPECT_THAT(TakeAll(*feed), ElementsAre(PrefixEvent(), Stored(7, 0, 1)));
}

TEST_F(PrefixFeedTest, ASubscriberThatIsTooSlowIsToldEverythingAnew) {
  const auto slow = Subscribe();
  const auto quick = Subscribe();
  const std::vector<PrefixEvent> events(PrefixFeeds::kMaxUntaken, Removed(1));
  const auto state = [] { return std::vector<PrefixEvent>{Stored(9, 0, 5)}; };
  feeds_.Publish(events, state);
  TakeAll(*quick);
  feeds_.Publish({Stored(9, 0, 5)}, state);
  EXPECT_THAT(TakeAll(*slow), ElementsAre(PrefixEvent(), Stored(9, 0, 5)));
  EXPECT_THAT(TakeAll(*quick), ElementsAre(Stored(9, 0, 5)));
}

// Else it would be told everything anew again and again.
TEST_F(PrefixFeedTest, AStateThatIsLargerThanTheLimitIsDelivered) {
  const auto feed = Subscribe();
  const std::vector<PrefixEvent> large(2 * PrefixFeeds::kMaxUntaken, Stored(1, 0, 1));
  feed->Restart(large);
  feeds_.Publish({Removed(1)}, [&] { return large; });
  const std::vector<PrefixEvent> taken = TakeAll(*feed);
  EXPECT_THAT(taken, SizeIs(large.size() + 2));
  EXPECT_EQ(taken.back(), Removed(1));
}

TEST_F(PrefixFeedTest, RefusesTooManyUntilOneIsDropped) {
  std::vector<std::shared_ptr<PrefixFeed>> feeds;
  for (size_t i = 0; i < PrefixFeeds::kMaxFeeds; ++i) feeds.push_back(Subscribe());
  const auto one_more = std::make_shared<PrefixFeed>([] {});
  EXPECT_EQ(feeds_.Add(one_more).code(), absl::StatusCode::kResourceExhausted);
  feeds.pop_back();
  EXPECT_TRUE(feeds_.Add(one_more).ok());
}

TEST_F(PrefixFeedTest, AnIndexTellsWhatCanBeFound) {
  const auto feed = Subscribe();
  {
    PrefixIndex index(&feeds_);
    const uint64_t first = index.Add(0, Tokens(1));
    const uint64_t second = index.Add(first, Tokens(2));
    EXPECT_THAT(TakeAll(*feed), IsEmpty()) << "not published yet";
    index.Publish();
    EXPECT_THAT(TakeAll(*feed), ElementsAre(Stored(first, 0, 1), Stored(second, first, 2)));
    EXPECT_THAT(index.State(), ElementsAre(Stored(first, 0, 1), Stored(second, first, 2)));
    index.Release({first, second});
    EXPECT_EQ(index.Reclaim(), second);
    EXPECT_THAT(TakeAll(*feed), ElementsAre(Removed(second)));
  }
  EXPECT_THAT(TakeAll(*feed), ElementsAre(PrefixEvent())) << "the group has ended";
}

// A subscriber that follows the events knows what the index has, whenever it came and however slow.
TEST_F(PrefixFeedTest, WhoeverFollowsKnowsTheIndex) {
  std::mt19937 random(7);
  PrefixIndex index(&feeds_);
  std::vector<uint64_t> used;
  const auto feed = Subscribe();
  std::map<uint64_t, PrefixEvent> mirror;
  for (int i = 0; i < 3000; ++i) {
    if (random() % 3 > 0) {
      const uint64_t parent = used.empty() || random() % 4 == 0 ? 0 : used.back();
      if (parent == 0) {
        index.Release(used);
        used.clear();
      }
      const uint64_t id = index.Add(parent, Tokens(static_cast<int32_t>(random() % 50)));
      if (id != 0) used.push_back(id);
    } else if (index.num_unused() > 0) {
      index.Reclaim();
    }
    if (random() % 2 == 0) index.Publish();
    if (random() % 5 > 0) continue;
    for (const PrefixEvent& event : feed->Take(random() % 20)) {
      if (event.kind == Kind::kStored) {
        EXPECT_TRUE(event.parent_id == 0 || mirror.contains(event.parent_id));
        EXPECT_TRUE(mirror.emplace(event.block_id, event).second);
      } else {
        EXPECT_EQ(mirror.erase(event.block_id), 1);
      }
    }
  }
  index.Publish();
  for (const PrefixEvent& event : TakeAll(*feed)) {
    if (event.kind == Kind::kStored) {
      mirror.emplace(event.block_id, event);
    } else {
      mirror.erase(event.block_id);
    }
  }
  std::vector<PrefixEvent> followed;
  for (const auto& [id, event] : mirror) followed.push_back(event);
  EXPECT_THAT(followed, SizeIs(::testing::Gt(10)));
  EXPECT_EQ(followed, index.State());
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
