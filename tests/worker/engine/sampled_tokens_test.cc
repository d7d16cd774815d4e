#include "worker/engine/sampled_tokens.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/thread_communicator.h"

namespace kvec::worker::engine {
namespace {

// One worker of a group whose last stage's rank 0 samples.
class Side {
 public:
  explicit Side(std::unique_ptr<comm::GroupComm> comm) : comm_(std::move(comm)) {
    tokens.SetComm(comm_.get());
  }

  Sequence& AddSequence(uint64_t id) {
    v1::SequenceStart start;
    start.set_sequence_id(id);
    sequences[id] = std::make_unique<Sequence>(start, nullptr);
    return *sequences[id];
  }

  // A Step that samples `tokens`, one for each of the choices 0 …, of a sequence.
  StepPlan Plan(uint64_t id, const std::vector<int32_t>& sampled) {
    StepPlan plan;
    plan.sequences = {sequences.at(id).get()};
    for (size_t choice = 0; choice < sampled.size(); ++choice) {
      v1::SequenceResult& result = *plan.result.add_results();
      result.set_sequence_id(id);
      result.set_choice(static_cast<uint32_t>(choice));
      if (tokens.IsHere()) {
        result.set_token_id(sampled[choice]);
        plan.sequences[0]->SetSampled(result.choice(), sampled[choice]);
      }
      plan.outputs.push_back({.work = 0, .result = static_cast<int>(choice), .request = {}});
    }
    return plan;
  }

  SequenceMap sequences;
  SampledTokens tokens{sequences};

 private:
  std::unique_ptr<comm::GroupComm> comm_;
};

struct Group {
  explicit Group(const comm::ThreadCommOptions& options = {}) {
    auto comms = comm::MakeThreadGroup(2, 1, options);
    reader = std::make_unique<Side>(std::move(comms[0]));
    sampler = std::make_unique<Side>(std::move(comms[1]));
    for (uint64_t id : {1, 2}) {
      reader->AddSequence(id);
      sampler->AddSequence(id);
    }
  }

  void Share(uint64_t id, const std::vector<int32_t>& sampled) {
    EXPECT_TRUE(sampler->tokens.Share(sampler->Plan(id, sampled)).ok());
    EXPECT_TRUE(reader->tokens.Share(reader->Plan(id, sampled)).ok());
  }
  int32_t LastSampled(uint64_t id) {
    Sequence& sequence = *reader->sequences.at(id);
    EXPECT_TRUE(reader->tokens.Await(sequence).ok());
    return sequence.last_sampled();
  }

  std::unique_ptr<Side> reader;
  std::unique_ptr<Side> sampler;
};

TEST(SampledTokens, TheLastStageSamples) {
  const Group group;
  EXPECT_TRUE(group.sampler->tokens.IsHere());
  EXPECT_FALSE(group.reader->tokens.IsHere());
  SequenceMap sequences;
  EXPECT_TRUE(SampledTokens(sequences).IsHere());
}

TEST(SampledTokens, ASequenceGetsItsLastOne) {
  Group group;
  group.Share(1, {10});
  group.Share(2, {20});
  group.Share(1, {11});
  EXPECT_EQ(group.reader->sequences.at(1)->last_sampled(), -1);  // not yet received
  EXPECT_EQ(group.LastSampled(1), 11);
  EXPECT_EQ(group.LastSampled(2), 20);
  group.Share(2, {21});
  EXPECT_EQ(group.LastSampled(2), 21);
}

TEST(SampledTokens, OneThatHasEndedIsPassedOver) {
  Group group;
  group.Share(1, {10});
  group.reader->sequences.erase(1);
  group.reader->AddSequence(1);  // goes on as another
  group.Share(2, {20});
  EXPECT_EQ(group.LastSampled(2), 20);
  EXPECT_EQ(group.LastSampled(1), -1);
}

TEST(SampledTokens, ForksGetThatOfTheirChoice) {
  Group group;
  // More than one message holds.
  std::vector<int32_t> sampled(700);
  for (size_t i = 0; i < sampled.size(); ++i) sampled[i] = static_cast<int32_t>(1000 + i);
  group.Share(1, sampled);
  EXPECT_EQ(group.LastSampled(1), 1000);
  for (uint32_t choice : {1u, 255u, 256u, 699u}) {
    v1::SequenceStart start;
    start.mutable_sampling()->set_choice(choice);
    EXPECT_EQ(group.reader->sequences.at(1)->Fork(start, nullptr)->last_sampled(), 1000 + choice);
  }
}

// Requests of one token each: nobody ever asks for it.
TEST(SampledTokens, WhatNobodyAsksForDoesNotPileUp) {
  constexpr int kSteps = 300;
  constexpr int kMayWait = 64;
  Group group({.buffered_bytes = 0});  // sent when received
  std::atomic<int> num_sent{0};
  std::thread sampler([&] {
    for (int i = 0; i < kSteps; ++i) {
      if (!group.sampler->tokens.Share(group.sampler->Plan(1, {i})).ok()) return;
      ++num_sent;
    }
  });
  for (int i = 0; i < kSteps; ++i) {
    ASSERT_TRUE(group.reader->tokens.Share(group.reader->Plan(1, {i})).ok());
  }
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (num_sent < kSteps - kMayWait && absl::Now() < deadline) std::this_thread::yield();
  EXPECT_EQ(num_sent, kSteps - kMayWait);
  EXPECT_EQ(group.LastSampled(1), kSteps - 1);
  sampler.join();
}

TEST(SampledTokens, AnotherGroupBeginsAnew) {
  Group group;
  group.Share(1, {10});
  auto comms = comm::MakeThreadGroup(2, 1);
  group.reader->sequences.clear();
  group.reader->AddSequence(1);
  group.reader->tokens.SetComm(comms[0].get());
  group.sampler->tokens.SetComm(comms[1].get());
  group.Share(1, {12});
  EXPECT_EQ(group.LastSampled(1), 12);
}

}  // namespace
}  // namespace kvec::worker::engine
