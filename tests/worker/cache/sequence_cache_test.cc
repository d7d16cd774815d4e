#include "worker/cache/sequence_cache.h"

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::worker::cache {
namespace {

using kernels::HeadPages;
using kernels::kPageTokens;
using kernels::PageCopy;

TEST(SequenceCache, TakesAPageEverySixteenTokensInEveryHead) {
  const CacheShape shape{.num_kv_heads = 3, .sliding_windows = {0, 0}};
  PagePool pool(100);
  SequenceCache cache(shape, pool);
  ASSERT_TRUE(cache.Append(16).ok());
  EXPECT_EQ(cache.num_pages(), 6);
  EXPECT_EQ(cache.PagesToAppend(1), 6);
  ASSERT_TRUE(cache.Append(1).ok());
  EXPECT_EQ(cache.num_pages(), 12);
  EXPECT_EQ(cache.PagesToAppend(15), 0);
  EXPECT_EQ(pool.num_free(), 88);
  EXPECT_EQ(cache.Layer(1)[2].num_entries, 17);
}

TEST(SequenceCache, ChangesNothingWhenThePoolIsTooSmall) {
  const CacheShape shape{.num_kv_heads = 2, .sliding_windows = {0}};
  PagePool pool(3);
  SequenceCache cache(shape, pool);
  ASSERT_TRUE(cache.Append(10).ok());
  const absl::Status status = cache.Append(10);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "kv pages: 2 needed for 10 tokens, 1 free");
  EXPECT_EQ(cache.num_tokens(), 10);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(SequenceCache, GivesAllPagesBackWhenDestroyed) {
  const CacheShape shape{.num_kv_heads = 2, .sliding_windows = {0, 20, 0}};
  PagePool pool(200);
  {
    SequenceCache cache(shape, pool);
    ASSERT_TRUE(cache.Append(100).ok());
    cache.ReleaseSlidOut();
    EXPECT_LT(pool.num_free(), 200);
  }
  EXPECT_EQ(pool.num_free(), 200);
}

TEST(SequenceCache, KeepsEveryEntryThatALaterTokenOfAWindowSees) {
  for (int window : {1, 2, 15, 16, 17, 33}) {
    const CacheShape shape{.num_kv_heads = 1, .sliding_windows = {window}};
    PagePool pool(100);
    SequenceCache cache(shape, pool);
    for (int token = 0; token < 200; ++token) {
      ASSERT_TRUE(cache.Append(1).ok());
      cache.ReleaseSlidOut();
      const int first_seen = std::max(0, token + 1 - window + 1);
      const int last_page = token / kPageTokens;
      // Exactly the pages from that of the first entry seen to that of the last entry.
      EXPECT_EQ(cache.num_pages(), std::max(0, last_page - first_seen / kPageTokens + 1))
          << "window " << window << " token " << token;
    }
  }
}

TEST(SequenceCache, ForkSharesFullPagesAndCopiesThePartialOne) {
  const CacheShape shape{.num_kv_heads = 1, .sliding_windows = {0}};
  PagePool pool(10);
  SequenceCache parent(shape, pool);
  ASSERT_TRUE(parent.Append(40).ok());
  std::vector<PageCopy> copies;
  auto child = parent.Fork(copies);
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(pool.num_free(), 6);
  const HeadPages before = parent.Layer(0)[0];
  const HeadPages after = (*child)->Layer(0)[0];
  EXPECT_EQ(before.pages[0], after.pages[0]);
  EXPECT_EQ(before.pages[1], after.pages[1]);
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].from, before.pages[2]);
  EXPECT_EQ(copies[0].to, after.pages[2]);
  EXPECT_EQ((*child)->num_tokens(), 40);
}

TEST(SequenceCache, ForkTakesNothingWhenThePoolIsTooSmall) {
  const CacheShape shape{.num_kv_heads = 2, .sliding_windows = {0}};
  PagePool pool(3);
  SequenceCache parent(shape, pool);
  ASSERT_TRUE(parent.Append(5).ok());
  std::vector<PageCopy> copies;
  EXPECT_EQ(parent.Fork(copies).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(copies.empty());
  EXPECT_EQ(pool.num_free(), 1);
}

// Shrinks every head of a layer to `kept` without moving anything.
void Evict(SequenceCache& cache, int layer, const std::vector<std::vector<int32_t>>& kept) {
  ASSERT_TRUE(cache.BeginEviction(layer, kept).ok());
  cache.FinishEviction(layer);
}

TEST(SequenceCache, EvictionLeavesEachHeadThePagesOfWhatItKeeps) {
  const CacheShape shape{.num_kv_heads = 3, .sliding_windows = {0, 0}};
  PagePool pool(100);
  SequenceCache cache(shape, pool);
  ASSERT_TRUE(cache.Append(100).ok());
  ASSERT_EQ(cache.num_pages(), 42);
  std::vector<int32_t> seventeen(17);
  std::iota(seventeen.begin(), seventeen.end(), 50);
  Evict(cache, 1, {{99}, seventeen, {}});
  EXPECT_EQ(cache.num_pages(), 21 + 1 + 2 + 0);
  EXPECT_EQ(pool.num_free(), 100 - 24);
  EXPECT_EQ(cache.Layer(0)[1].num_entries, 100);
  EXPECT_EQ(cache.Layer(1)[0].num_entries, 1);
  EXPECT_EQ(cache.Layer(1)[1].num_entries, 17);
  EXPECT_EQ(cache.num_tokens(), 100);
  // Heads of 100 entries fill their last page; of those of 1, 17 and 0 the last needs one.
  EXPECT_EQ(cache.PagesToAppend(12), 1);
}

TEST(SequenceCache, EvictionOfSharedPagesWritesNewOnes) {
  const CacheShape shape{.num_kv_heads = 1, .sliding_windows = {0}};
  PagePool pool(20);
  SequenceCache parent(shape, pool);
  ASSERT_TRUE(parent.Append(64).ok());
  std::vector<PageCopy> copies;
  const auto child = parent.Fork(copies);
  ASSERT_TRUE(child.ok());
  const HeadPages before = parent.Layer(0)[0];
  const auto moves = (*child)->BeginEviction(0, {{{1, 2, 40}}});
  ASSERT_TRUE(moves.ok());
  ASSERT_EQ(moves->size(), 1u);
  for (int page = 0; page < 4; ++page) EXPECT_NE((*moves)[0].to_pages[0], before.pages[page]);
  (*child)->FinishEviction(0);
  EXPECT_EQ((*child)->num_pages(), 1);
  EXPECT_EQ(parent.num_pages(), 4);
  EXPECT_EQ(pool.num_free(), 20 - 5);
}

TEST(SequenceCache, EvictionTakesNothingWhenThePoolIsTooSmall) {
  const CacheShape shape{.num_kv_heads = 1, .sliding_windows = {0}};
  PagePool pool(4);
  SequenceCache parent(shape, pool);
  ASSERT_TRUE(parent.Append(64).ok());
  std::vector<PageCopy> copies;
  const auto child = parent.Fork(copies);
  ASSERT_TRUE(child.ok());
  const auto moves = (*child)->BeginEviction(0, {{{1, 2, 40}}});
  EXPECT_EQ(moves.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(moves.status().message(), "kv pages: 1 needed to evict from shared pages, 0 free");
  EXPECT_EQ((*child)->num_pages(), 4);
  EXPECT_EQ((*child)->Layer(0)[0].num_entries, 64);
}

// What every (sequence, layer, head, entry) should hold, against what the pages hold when a device
// writes and copies as the cache says.
class CacheModel {
 public:
  explicit CacheModel(uint32_t seed) : random_(seed) {}

  void Step() {
    switch (random_() % 9) {
      case 0:
        sequences_.push_back(
            {std::make_unique<SequenceCache>(shape_, pool_),
             Tokens(shape_.num_layers(), std::vector<std::vector<int64_t>>(shape_.num_kv_heads))});
        break;
      case 1:
        if (!sequences_.empty()) sequences_.erase(sequences_.begin() + Pick());
        break;
      case 2:
        if (!sequences_.empty()) Fork(sequences_[Pick()]);
        break;
      case 3:
        if (!sequences_.empty()) Evict(sequences_[Pick()], random_() % 2 == 0 ? 0 : 2);
        break;
      default:
        if (!sequences_.empty()) Append(sequences_[Pick()], 1 + random_() % 40);
    }
  }

  void Check() {
    int64_t references = 0;
    std::set<int32_t> distinct;
    for (Sequence& sequence : sequences_) {
      int64_t pages = 0;
      for (int layer = 0; layer < shape_.num_layers(); ++layer) {
        for (int i = 0; i < shape_.num_kv_heads; ++i) {
          const HeadPages& head = sequence.cache->Layer(layer)[i];
          const int first = FirstSeen(layer, head);
          CheckContents(head, first, sequence.tokens[layer][i]);
          const int first_page = first / kPageTokens;
          const int end_page = (head.num_entries + kPageTokens - 1) / kPageTokens;
          pages += end_page - first_page;
          distinct.insert(head.pages + first_page, head.pages + end_page);
        }
      }
      ASSERT_EQ(sequence.cache->num_pages(), pages);
      references += pages;
    }
    int64_t pool_references = 0;
    for (int32_t page = 0; page < pool_.num_pages(); ++page) {
      pool_references += pool_.references(page);
    }
    ASSERT_EQ(references, pool_references);
    ASSERT_EQ(static_cast<int64_t>(distinct.size()) + pool_.num_free(), pool_.num_pages());
  }

 private:
  using Slot = std::pair<int32_t, int>;  // page, offset

  using Tokens = std::vector<std::vector<std::vector<int64_t>>>;  // [layer][head][entry]

  struct Sequence {
    std::unique_ptr<SequenceCache> cache;
    Tokens tokens;
  };

  // The first entry that the next token sees.
  int FirstSeen(int layer, const HeadPages& head) const {
    const int window = shape_.sliding_windows[layer];
    return window == 0 ? 0 : std::max(0, head.num_entries - window + 1);
  }

  void CheckContents(const HeadPages& head, int first, const std::vector<int64_t>& tokens) {
    ASSERT_EQ(head.num_entries, static_cast<int>(tokens.size()));
    for (int entry = first; entry < head.num_entries; ++entry) {
      const Slot slot{head.pages[entry / kPageTokens], entry % kPageTokens};
      ASSERT_EQ(contents_[slot], tokens[entry]);
    }
  }

  size_t Pick() { return random_() % sequences_.size(); }

  void Append(Sequence& sequence, int count) {
    const int64_t needed = sequence.cache->PagesToAppend(count);
    const int64_t num_free = pool_.num_free();
    const absl::Status status = sequence.cache->Append(count);
    ASSERT_EQ(status.ok(), needed <= num_free);
    if (!status.ok()) return;
    for (int layer = 0; layer < shape_.num_layers(); ++layer) {
      for (int i = 0; i < shape_.num_kv_heads; ++i) {
        const HeadPages& head = sequence.cache->Layer(layer)[i];
        for (int entry = head.num_entries - count; entry < head.num_entries; ++entry) {
          sequence.tokens[layer][i].push_back(next_token_);
          Write(head.pages[entry / kPageTokens], entry % kPageTokens, next_token_++);
        }
      }
    }
    sequence.cache->ReleaseSlidOut();
  }

  void Write(int32_t page, int offset, int64_t token) {
    ASSERT_EQ(pool_.references(page), 1) << "wrote to a shared page";
    contents_[Slot{page, offset}] = token;
  }

  void Evict(Sequence& sequence, int layer) {
    std::vector<std::vector<int32_t>> kept(shape_.num_kv_heads);
    for (int i = 0; i < shape_.num_kv_heads; ++i) {
      const int one_in = 1 + static_cast<int>(random_() % 4);
      for (int entry = 0; entry < sequence.cache->Layer(layer)[i].num_entries; ++entry) {
        if (random_() % one_in == 0) kept[i].push_back(entry);
      }
    }
    const int num_free = pool_.num_free();
    const auto moves = sequence.cache->BeginEviction(layer, kept);
    if (!moves.ok()) {
      ASSERT_EQ(pool_.num_free(), num_free);
      return;
    }
    for (int i = 0; i < shape_.num_kv_heads; ++i) {
      const kernels::GatherRequest& move = (*moves)[i];
      std::vector<int64_t> left;
      for (size_t to = 0; to < move.kept.size(); ++to) {
        const int32_t from = move.kept[to];
        left.push_back(contents_[Slot{move.head.pages[from / kPageTokens], from % kPageTokens}]);
        Write(move.to_pages[to / kPageTokens], static_cast<int>(to) % kPageTokens, left.back());
      }
      sequence.tokens[layer][i] = std::move(left);
    }
    sequence.cache->FinishEviction(layer);
  }

  void Fork(Sequence& sequence) {
    std::vector<PageCopy> copies;
    auto child = sequence.cache->Fork(copies);
    if (!child.ok()) return;
    for (const PageCopy& copy : copies) {
      for (int offset = 0; offset < kPageTokens; ++offset) {
        contents_[Slot{copy.to, offset}] = contents_[Slot{copy.from, offset}];
      }
    }
    Sequence forked{*std::move(child), sequence.tokens};
    sequences_.push_back(std::move(forked));
  }

  std::mt19937 random_;
  const CacheShape shape_{.num_kv_heads = 2, .sliding_windows = {0, 24, 0}};
  PagePool pool_{150};
  std::vector<Sequence> sequences_;
  std::map<Slot, int64_t> contents_;
  int64_t next_token_ = 0;
};

TEST(SequenceCache, HoldsEverySequencesEntriesUnderRandomSchedules) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    CacheModel model(seed);
    for (int step = 0; step < 300; ++step) {
      model.Step();
      model.Check();
      if (testing::Test::HasFatalFailure()) FAIL() << "seed " << seed << " step " << step;
    }
  }
}

}  // namespace
}  // namespace kvec::worker::cache
