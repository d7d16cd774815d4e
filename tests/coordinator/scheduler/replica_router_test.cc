#include "coordinator/scheduler/replica_router.h"

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;

// Real schedulers with groups of fake workers.
class ReplicaRouterTest : public testing::Test {
 protected:
  void MakeReplicas(int count) {
    SchedulerOptions options = SmallSteps();
    options.prefix_caching = true;
    options.step_tokens = 64;
    std::vector<Scheduler*> replicas;
    for (int i = 0; i < count; ++i) {
      drivers_.push_back(std::make_unique<SchedulerDriver>(options));
      drivers_.back()->FormGroup(OneWorker(200));
      replicas.push_back(&drivers_.back()->scheduler());
    }
    router_ = std::make_unique<ReplicaRouter>(std::move(replicas));
  }

  std::shared_ptr<RecordingSink> Submit(Request request) {
    auto sink = std::make_shared<RecordingSink>(0);
    request.sink = sink;
    status_ = router_->Submit(std::move(request), absl::UnixEpoch());
    return sink;
  }

  // The replica that has the request; -1: none.
  int ReplicaOf(const std::string& id) {
    for (const v1::RequestStatus& status : router_->RequestStatuses(1000, absl::UnixEpoch())) {
      if (status.request_id() == id) return static_cast<int>(status.replica());
    }
    return -1;
  }

  std::vector<uint32_t> Waiting() {
    std::vector<uint32_t> waiting;
    for (const Scheduler* replica : router_->replicas()) {
      waiting.push_back(replica->counts().num_waiting);
    }
    return waiting;
  }

  // A prompt that begins like no other's.
  static Request Distinct(const std::string& id, uint32_t prompt_tokens, int32_t first) {
    Request request = MakeRequest(id, prompt_tokens, 4);
    request.prompt[0] = first;
    return request;
  }

  std::vector<std::unique_ptr<SchedulerDriver>> drivers_;
  std::unique_ptr<ReplicaRouter> router_;
  absl::Status status_;
};

TEST_F(ReplicaRouterTest, ARequestGoesWhereFewestTokensAre) {
  MakeReplicas(3);
  Submit(MakeRequest("large", 100, 4));
  EXPECT_THAT(Waiting(), ElementsAre(1, 0, 0));
  Submit(MakeRequest("small", 10, 4));
  EXPECT_THAT(Waiting(), ElementsAre(1, 1, 0));
  Submit(MakeRequest("middle", 30, 4));
  EXPECT_THAT(Waiting(), ElementsAre(1, 1, 1));
  for (int i = 0; i < 4; ++i) Submit(MakeRequest(absl::StrCat("more", i), 20, 4));
  // 100; 10 + 20 + 20; 30 + 20 + 20
  EXPECT_THAT(Waiting(), ElementsAre(1, 3, 3));
  EXPECT_EQ(router_->counts().num_waiting, 7u);
  EXPECT_EQ(router_->counts().num_tokens, 220u);
}

TEST_F(ReplicaRouterTest, WhatWasGeneratedCountsAndWhatHasEndedDoesNot) {
  MakeReplicas(2);
  Submit(MakeRequest("a", 20, 100));
  Submit(MakeRequest("b", 21, 4));
  while (router_->replicas()[0]->counts().num_tokens < 22) drivers_[0]->SendAndAnswer();
  Submit(MakeRequest("c", 10, 4));
  EXPECT_EQ(ReplicaOf("c"), 1);  // 21 against at least 22
  drivers_[1]->RunToEnd();
  EXPECT_EQ(ReplicaOf("b"), -1);
  Submit(MakeRequest("d", 60, 4));
  EXPECT_EQ(ReplicaOf("d"), 1);
}

TEST_F(ReplicaRouterTest, APromptGoesWhereItsBeginningIsCachedUnlessThatOneIsBusy) {
  MakeReplicas(2);
  Submit(Distinct("other", 10, 7));  // the next one goes to replica 1
  Submit(Distinct("first", 100, 3));
  EXPECT_EQ(ReplicaOf("first"), 1);
  for (auto& driver : drivers_) driver->RunToEnd();
  Request again = Distinct("again", 110, 3);
  EXPECT_EQ(router_->replicas()[1]->CountCachedTokens(again.prompt), 96u);
  EXPECT_EQ(router_->replicas()[0]->CountCachedTokens(again.prompt), 0u);
  Submit(std::move(again));
  EXPECT_EQ(ReplicaOf("again"), 1);
  // 110 tokens there are more than the 96 that need not be read.
  Submit(Distinct("once more", 110, 3));
  EXPECT_EQ(ReplicaOf("once more"), 0);
}

TEST_F(ReplicaRouterTest, AReplicaWithoutAGroupGetsNothingWhileAnotherServes) {
  MakeReplicas(3);
  drivers_[0]->LoseGroup();
  drivers_[1]->scheduler().HoldStarts();
  for (int i = 0; i < 3; ++i) Submit(MakeRequest(absl::StrCat("r", i), 50, 4));
  EXPECT_THAT(Waiting(), ElementsAre(0, 0, 3));
  // One that is to be given up comes before one that is gone.
  drivers_[2]->LoseGroup();
  Submit(MakeRequest("late", 50, 4));
  EXPECT_THAT(Waiting(), ElementsAre(0, 1, 3));
}

TEST_F(ReplicaRouterTest, NoIdIsUsedTwiceAndCancelFindsIt) {
  MakeReplicas(2);
  const auto sink = Submit(MakeRequest("a", 50, 4));
  Submit(MakeRequest("a", 50, 4));
  EXPECT_EQ(status_.code(), absl::StatusCode::kAlreadyExists);
  Submit(MakeRequest("b", 5, 4));
  EXPECT_EQ(ReplicaOf("b"), 1);
  router_->Cancel("b", absl::CancelledError("gone"), absl::UnixEpoch());
  EXPECT_EQ(ReplicaOf("b"), -1);
  EXPECT_FALSE(sink->done().has_value());
}

TEST_F(ReplicaRouterTest, ASessionStaysWhereItBegan) {
  MakeReplicas(2);
  Request first = MakeRequest("first", 20, 4);
  first.session_id = "s";
  const auto sink = Submit(std::move(first));
  EXPECT_EQ(ReplicaOf("first"), 0);
  Submit(MakeRequest("busy", 5, 4));
  EXPECT_EQ(ReplicaOf("busy"), 1);
  // Even before its first request has ended.
  Request early = MakeRequest("early", 20, 4);
  early.session_id = "s";
  Submit(std::move(early));
  EXPECT_EQ(status_.code(), absl::StatusCode::kAborted);
  EXPECT_FALSE(router_->HasSession("s"));
  for (auto& driver : drivers_) driver->RunToEnd();
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_TRUE(sink->done()->ok()) << *sink->done();
  EXPECT_TRUE(router_->HasSession("s"));

  Submit(MakeRequest("load", 90, 4));  // makes replica 0 the busier one
  EXPECT_EQ(ReplicaOf("load"), 0);
  Request second = MakeRequest("second", 5, 4);
  second.session_id = "s";
  second.is_follow_up = true;
  second.context_length = 1000;
  Submit(std::move(second));
  EXPECT_TRUE(status_.ok()) << status_;
  EXPECT_EQ(ReplicaOf("second"), 0);
}

TEST_F(ReplicaRouterTest, ManyRequestsAllEndWithTheTokensOfOneReplica) {
  MakeReplicas(3);
  std::mt19937 random(1);
  std::vector<Request> requests;
  for (int i = 0; i < 40; ++i) {
    requests.push_back(MakeRequest(absl::StrCat("r", i), 1 + random() % 60, 1 + random() % 20));
  }
  SchedulerDriver alone(SmallSteps());
  alone.FormGroup(OneWorker(1000));
  std::vector<std::shared_ptr<RecordingSink>> expected;
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const Request& request : requests) {
    expected.push_back(alone.Submit(request));
    sinks.push_back(Submit(request));
  }
  alone.RunToEnd();
  drivers_[1]->SendAndAnswer();
  drivers_[1]->LoseGroup();
  for (int i : {0, 2}) drivers_[i]->RunToEnd();
  drivers_[1]->FormGroup(OneWorker(200));
  drivers_[1]->RunToEnd();
  for (size_t i = 0; i < requests.size(); ++i) {
    ASSERT_TRUE(sinks[i]->done().has_value()) << i;
    EXPECT_TRUE(sinks[i]->done()->ok()) << *sinks[i]->done();
    EXPECT_EQ(sinks[i]->choice(0).tokens, expected[i]->choice(0).tokens) << i;
  }
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
