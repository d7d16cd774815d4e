#include "worker/eviction/rank_exchange.h"

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/thread_communicator.h"

namespace kvec::worker::eviction {
namespace {

using ::testing::ElementsAre;

constexpr int kNumHeads = 9;
constexpr int kNumKvHeads = 3;
constexpr int kCandidates = 37;
constexpr int kFocusWindow = 4;

std::vector<float> Random(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> values(size);
  for (float& value : values) value = uniform(random);
  return values;
}

// Two windows of the whole layer, and parts of it.
struct Layer {
  std::vector<float> means[2] = {Random(kNumHeads * kCandidates, 1),
                                 Random(kNumHeads* kCandidates, 2)};
  std::vector<float> maxima = Random(kNumHeads * kFocusWindow * kCandidates, 3);
  std::vector<float> norms = Random(kNumKvHeads * kCandidates, 4);
};

// What a rank is told, and what it finds.
struct Rank {
  std::vector<float> maxima;
  std::vector<float> heads[2];
  std::vector<float> focus;
  uint64_t sent_bytes = 0;
};

void Run(const Layer& layer, const std::vector<RankHeads>& ranks, int rank, GroupScore group_score,
         comm::Communicator* comm, Rank& result) {
  RankExchange exchange(ranks, rank, kNumHeads / kNumKvHeads);
  exchange.SetComm(comm);
  const RankHeads& mine = ranks[rank];
  RankScores scores;
  scores.num_candidates = kCandidates;
  for (const std::vector<float>& means : layer.means) {
    scores.query_head_means.push_back(absl::MakeConstSpan(means).subspan(
        mine.first_head * kCandidates, mine.num_heads * kCandidates));
  }
  result.maxima.assign(kFocusWindow * kCandidates, 0);
  for (int head = mine.first_head; head < mine.first_head + mine.num_heads; ++head) {
    for (int i = 0; i < kFocusWindow * kCandidates; ++i) {
      result.maxima[i] =
          std::max(result.maxima[i], layer.maxima[head * kFocusWindow * kCandidates + i]);
    }
  }
  scores.maxima = result.maxima;
  scores.value_norms = absl::MakeConstSpan(layer.norms).subspan(mine.first_kv_head * kCandidates);
  const ScoreNeeds needs{
      .windows = {8, 16}, .group_score = group_score, .focus_window = kFocusWindow};
  const auto joined = exchange.Join(needs, scores);
  ASSERT_TRUE(joined.ok()) << joined.status();
  EXPECT_EQ(joined->num_candidates, kCandidates);
  EXPECT_EQ(joined->num_kv_heads, kNumKvHeads);
  for (size_t i = 0; i < joined->heads.size(); ++i) {
    result.heads[i].assign(joined->heads[i].begin(), joined->heads[i].end());
  }
  result.focus.assign(joined->focus.begin(), joined->focus.end());
  result.sent_bytes = exchange.sent_bytes();
}

std::vector<Rank> RunAll(const Layer& layer, const std::vector<RankHeads>& ranks,
                         GroupScore group_score) {
  const auto comms = comm::MakeThreadCommunicators(static_cast<int>(ranks.size()));
  std::vector<Rank> results(ranks.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    threads.emplace_back([&, rank] {
      Run(layer, ranks, static_cast<int>(rank), group_score, comms[rank].get(), results[rank]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  return results;
}

// Splits of 9 query and 3 KV heads, some through a group.
const std::vector<std::vector<RankHeads>> kSplits = {
    {{0, 9, 0, 3}},
    {{0, 5, 0, 2}, {5, 4, 1, 2}},
    {{0, 1, 0, 1}, {1, 8, 0, 3}},
    {{0, 3, 0, 1}, {3, 3, 1, 1}, {6, 3, 2, 1}},
    {{0, 3, 0, 1}, {3, 2, 1, 1}, {5, 2, 1, 2}, {7, 2, 2, 1}},
};

TEST(RankExchange, EverySplitGivesTheBitsOfOneRank) {
  const Layer layer;
  for (GroupScore group_score : {GroupScore::kMean, GroupScore::kWeightedMaximum}) {
    const Rank whole = RunAll(layer, kSplits[0], group_score)[0];
    EXPECT_EQ(whole.sent_bytes, 0);
    for (const std::vector<RankHeads>& split : kSplits) {
      for (const Rank& rank : RunAll(layer, split, group_score)) {
        EXPECT_EQ(rank.heads[0], whole.heads[0]);
        EXPECT_EQ(rank.heads[1], whole.heads[1]);
        EXPECT_EQ(rank.focus, whole.focus);
      }
    }
  }
}

TEST(RankExchange, JoinsByTheDefinition) {
  const Layer layer;
  const Rank mean = RunAll(layer, kSplits[1], GroupScore::kMean)[1];
  const Rank maximum = RunAll(layer, kSplits[1], GroupScore::kWeightedMaximum)[0];
  for (int window = 0; window < 2; ++window) {
    for (int i = 0; i < kNumKvHeads * kCandidates; ++i) {
      const int kv_head = i / kCandidates;
      double sum = 0;
      double largest = 0;
      for (int head = 3 * kv_head; head < 3 * kv_head + 3; ++head) {
        const double value = layer.means[window][head * kCandidates + i % kCandidates];
        sum += value;
        largest = std::max(largest, value);
      }
      EXPECT_NEAR(mean.heads[window][i], sum / 3, 1e-6);
      EXPECT_NEAR(maximum.heads[window][i], largest * layer.norms[i], 1e-6);
    }
  }
  for (int t = 0; t < kCandidates; ++t) {
    double sum = 0;
    for (int query = 0; query < kFocusWindow; ++query) {
      float largest = 0;
      for (int head = 0; head < kNumHeads; ++head) {
        largest = std::max(largest, layer.maxima[(head * kFocusWindow + query) * kCandidates + t]);
      }
      sum += largest;
    }
    EXPECT_NEAR(mean.focus[t], sum / kFocusWindow, 1e-6);
  }
}

TEST(RankExchange, KvecSendsOneRowPerKvHeadAndWindow) {
  const std::vector<Rank> ranks = RunAll(Layer(), kSplits[3], GroupScore::kWeightedMaximum);
  constexpr uint64_t kRows = 2 + kFocusWindow;  // two windows of one KV head each
  EXPECT_EQ(ranks[0].sent_bytes, 2 * kRows * kCandidates * sizeof(float));  // to 2 others
}

TEST(RankExchange, WhatOnlyOneRankHoldsIsKnownToAll) {
  const std::vector<RankHeads> split = {{0, 5, 0, 2}, {5, 4, 1, 2}};
  const std::vector<std::vector<int32_t>> held = {{0, 3, 8}, {1, 9, 16}, {}};
  const auto comms = comm::MakeThreadCommunicators(2);
  std::vector<std::vector<std::vector<int32_t>>> joined(2);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      RankExchange exchange(split, rank, 3);
      exchange.SetComm(comms[rank].get());
      const auto positions = exchange.JoinPositions(absl::MakeConstSpan(held).subspan(rank, 2), 17);
      ASSERT_TRUE(positions.ok()) << positions.status();
      joined[rank] = *positions;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(joined, ElementsAre(held, held));
}

TEST(RankExchange, ACommunicatorsErrorIsReturned) {
  const auto comms = comm::MakeThreadCommunicators(2);
  comms[0]->Abort();
  RankExchange exchange({{0, 5, 0, 2}, {5, 4, 1, 2}}, 0, 3);
  exchange.SetComm(comms[0].get());
  const std::vector<std::vector<int32_t>> held = {{0}, {1}};
  EXPECT_EQ(exchange.JoinPositions(held, 17).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvec::worker::eviction
