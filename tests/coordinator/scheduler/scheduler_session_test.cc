// Requests that continue a session: their tokens never depend on whether the workers still hold
// what the session has left there.

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/scheduler/scheduler.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/fake_model.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kContext = 400;

class TenAllocator : public BudgetAllocator {
 public:
  absl::StatusOr<std::vector<uint32_t>> LayerBudgets(const v1::CachePolicy&,
                                                     uint32_t) const override {
    return std::vector<uint32_t>{10};
  }
};

// The oracle: a conversation of one session, as a sequence of its own that is never disturbed.
class Conversation {
 public:
  // The tokens of the next answer.
  std::vector<int32_t> Answer(const Request& request) {
    const bool is_first = num_tokens_ == 0;
    if (!is_first) state_ = FakeModel::Feed(state_, last_token_, true);
    for (int32_t token : request.prompt) state_ = FakeModel::Feed(state_, token, true);
    num_tokens_ += static_cast<uint32_t>(request.prompt.size());
    const uint32_t prompt_tokens = num_tokens_;
    FakeModel::State logits = state_;
    if (is_first && request.cache.policy() == "ten") state_ = FakeModel::Evict(state_, {10});
    std::vector<int32_t> answer;
    while (true) {
      last_token_ = FakeModel::Sample(logits, request.sampling, prompt_tokens, num_tokens_++);
      answer.push_back(last_token_);
      const auto& stops = request.stop_token_ids;
      if (answer.size() == request.max_tokens ||
          std::find(stops.begin(), stops.end(), last_token_) != stops.end()) {
        return answer;
      }
      state_ = logits = FakeModel::Feed(state_, last_token_, false);
    }
  }
  uint32_t num_tokens() const { return num_tokens_; }

 private:
  FakeModel::State state_ = FakeModel::kEmpty;
  int32_t last_token_ = 0;
  uint32_t num_tokens_ = 0;
};

Request Turn(std::string id, uint32_t prompt_tokens, uint32_t max_tokens, bool is_follow_up) {
  Request request = MakeRequest(std::move(id), prompt_tokens, max_tokens);
  request.session_id = "s";
  request.is_follow_up = is_follow_up;
  request.context_length = kContext;
  request.cache.set_policy("ten");
  request.cache.set_observation_window(1);
  return request;
}

class SchedulerSessionTest : public ::testing::Test {
 protected:
  void Use(uint64_t num_pages, SchedulerOptions options = SmallSteps()) {
    driver_ = std::make_unique<SchedulerDriver>(options, std::make_shared<TenAllocator>());
    driver_->FormGroup(OneWorker(num_pages));
  }
  // Runs a turn to its end and checks its tokens.
  std::shared_ptr<RecordingSink> Run(const Request& request) {
    const auto sink = driver_->Submit(request);
    EXPECT_TRUE(driver_->last_status().ok()) << driver_->last_status();
    driver_->RunToEnd();
    EXPECT_TRUE(sink->done()->ok()) << *sink->done();
    EXPECT_EQ(sink->choice(0).tokens, conversation_.Answer(request));
    return sink;
  }
  uint64_t num_sequences() { return driver_->group().worker(0).num_sequences(); }

  std::unique_ptr<SchedulerDriver> driver_;
  Conversation conversation_;
};

TEST_F(SchedulerSessionTest, FeedsOnlyWhatComesAfterTheSession) {
  Use(100);
  Run(Turn("a", 60, 20, false));
  EXPECT_EQ(num_sequences(), 1);
  const Request second = Turn("b", 25, 9, true);
  const auto sink = driver_->Submit(second);
  const v1::Step step = driver_->SendAndAnswer();
  ASSERT_EQ(step.starts_size(), 1);
  EXPECT_TRUE(step.starts(0).continues());
  EXPECT_EQ(step.starts(0).cached_token_ids_size(), 79);
  EXPECT_EQ(step.starts(0).prompt_tokens(), 105);
  EXPECT_EQ(step.work(0).first_position(), 79);
  EXPECT_EQ(step.work(0).token_ids_size(), 26) << "the answer's last token, and the prompt";
  EXPECT_TRUE(step.work(0).is_prompt());
  EXPECT_EQ(step.evictions_size(), 0);
  driver_->RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens, conversation_.Answer(second));
  EXPECT_EQ(sink->usage().prompt_tokens(), 25);
  EXPECT_EQ(sink->usage().session_tokens(), 80);
  Run(Turn("c", 1, 5, true));
}

TEST_F(SchedulerSessionTest, ReplaysWhatTheWorkersHaveLost) {
  Use(100);
  Run(Turn("a", 60, 20, false));
  driver_->LoseGroup();
  driver_->FormGroup(OneWorker(100));
  const auto second = Run(Turn("b", 25, 9, true));
  EXPECT_EQ(second->usage().session_tokens(), 80);
  driver_->LoseGroup();
  driver_->FormGroup(OneWorker(100));
  Run(Turn("c", 25, 9, true));
}

TEST_F(SchedulerSessionTest, ReplaysAFollowUpThatLosesItsWorkers) {
  Use(100);
  Run(Turn("a", 60, 20, false));
  const Request second = Turn("b", 25, 30, true);
  const auto sink = driver_->Submit(second);
  for (int i = 0; i < 8; ++i) driver_->SendAndAnswer();
  driver_->LoseGroup();
  driver_->FormGroup(OneWorker(100));
  driver_->RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens, conversation_.Answer(second));
  Run(Turn("c", 3, 3, true));
}

TEST_F(SchedulerSessionTest, GivesTheSessionsPagesToRequestsThatNeedThem) {
  Use(10);
  Run(Turn("a", 60, 20, false));
  EXPECT_THAT(driver_->scheduler().free_pages(), ElementsAre(8));
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(2));
  Request other = MakeRequest("other", 150, 5);
  const auto sink = driver_->Submit(other);
  driver_->RunToEnd();
  EXPECT_TRUE(sink->done()->ok()) << *sink->done();
  EXPECT_EQ(sink->usage().preemptions(), 0);
  EXPECT_EQ(num_sequences(), 0);
  Run(Turn("b", 25, 9, true));
}

TEST_F(SchedulerSessionTest, ReclaimsBlocksBeforeSessions) {
  SchedulerOptions options = SmallSteps();
  options.prefix_caching = true;
  Use(10, options);
  Run(Turn("a", 60, 20, false));  // two pages; three blocks of its prompt stay
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(5));
  Request other = MakeRequest("other", 8 * 16 - 4, 2);
  other.prompt[0] = 99;
  driver_->Submit(other);
  driver_->RunToEnd();
  EXPECT_EQ(num_sequences(), 1);
  Run(Turn("b", 25, 9, true));
}

TEST_F(SchedulerSessionTest, CountsBlocksThatSessionsShareOnce) {
  SchedulerOptions options = SmallSteps();
  options.prefix_caching = true;
  Use(30, options);
  for (const char* id : {"first", "second"}) {
    Request request = Turn(id, 60, 20, false);
    request.cache.set_policy("full");
    request.session_id = id;
    driver_->Submit(request);
    driver_->RunToEnd();
  }
  // Three shared, and of each the two pages after them.
  EXPECT_THAT(driver_->scheduler().free_pages(), ElementsAre(30 - 7));
  EXPECT_THAT(driver_->scheduler().cached_pages(), ElementsAre(7));
}

TEST_F(SchedulerSessionTest, LeavesTheSessionAsItWasWhenARequestIsCancelled) {
  Use(100);
  Run(Turn("a", 60, 20, false));
  const auto sink = driver_->Submit(Turn("b", 25, 9, true));
  driver_->SendAndAnswer();
  driver_->scheduler().Cancel("b", absl::CancelledError("by the test"), driver_->now());
  driver_->RunToEnd();
  EXPECT_EQ(num_sequences(), 0);
  EXPECT_TRUE(driver_->scheduler().HasSession("s"));
  Run(Turn("c", 7, 9, true));
}

TEST_F(SchedulerSessionTest, ForgetsASessionWhoseFirstRequestFails) {
  Use(100);
  driver_->Submit(Turn("a", 60, 20, false));
  driver_->SendAndAnswer();
  driver_->scheduler().Cancel("a", absl::CancelledError("by the test"), driver_->now());
  driver_->RunToEnd();
  EXPECT_FALSE(driver_->scheduler().HasSession("s"));
  Run(Turn("b", 60, 20, false));
}

TEST_F(SchedulerSessionTest, RefusesASecondRequestAtATime) {
  Use(100);
  driver_->Submit(Turn("a", 60, 20, false));
  driver_->Submit(Turn("b", 60, 20, false));
  EXPECT_EQ(driver_->last_status(),
            absl::AbortedError("session_id: s is in use by another request"));
}

TEST_F(SchedulerSessionTest, RefusesARequestThatWasReadForAnotherState) {
  Use(100);
  driver_->Submit(Turn("a", 60, 20, true));
  EXPECT_EQ(driver_->last_status().code(), absl::StatusCode::kAborted);
  Run(Turn("b", 60, 20, false));
  driver_->Submit(Turn("c", 60, 20, false));
  EXPECT_EQ(driver_->last_status().code(), absl::StatusCode::kAborted);
  Run(Turn("d", 5, 5, true));
}

TEST_F(SchedulerSessionTest, CountsTheContextOverTheWholeSession) {
  Use(100);
  Run(Turn("a", 60, 20, false));
  driver_->Submit(Turn("b", 300, 21, true));
  EXPECT_EQ(driver_->last_status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(driver_->last_status().message()),
              HasSubstr("80 tokens, a prompt of 300 and 21 new ones exceed the context of 400"));
  Request fills = Turn("c", 300, 1, true);
  fills.fills_context = true;
  const auto sink = driver_->Submit(fills);
  driver_->RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens.size(), 20);
}

TEST_F(SchedulerSessionTest, EndsSessionsThatNobodyUses) {
  SchedulerOptions options = SmallSteps();
  options.session_ttl = absl::Seconds(5);
  Use(100, options);
  Run(Turn("a", 60, 20, false));
  const absl::Time expiry = driver_->scheduler().NextDeadline();
  EXPECT_GT(expiry, driver_->now() + absl::Seconds(4));
  EXPECT_LE(expiry, driver_->now() + absl::Seconds(5));
  driver_->scheduler().ExpireDeadlines(expiry - absl::Milliseconds(1));
  EXPECT_TRUE(driver_->scheduler().HasSession("s"));
  driver_->scheduler().ExpireDeadlines(expiry);
  EXPECT_FALSE(driver_->scheduler().HasSession("s"));
  EXPECT_EQ(driver_->scheduler().NextDeadline(), absl::InfiniteFuture());
  driver_->RunToEnd();
  EXPECT_EQ(num_sequences(), 0);
  EXPECT_THAT(driver_->scheduler().free_pages(), ElementsAre(100));
}

TEST_F(SchedulerSessionTest, MakesRoomForANewSession) {
  SchedulerOptions options = SmallSteps();
  options.max_sessions = 2;
  Use(100, options);
  for (const char* id : {"first", "second", "third"}) {
    Request request = Turn(id, 20, 5, false);
    request.session_id = id;
    driver_->Submit(request);
    driver_->RunToEnd();
  }
  EXPECT_FALSE(driver_->scheduler().HasSession("first"));
  EXPECT_TRUE(driver_->scheduler().HasSession("second"));
  EXPECT_EQ(num_sequences(), 2);
  EXPECT_EQ(driver_->scheduler().counts().num_sessions, 2);
}

TEST_F(SchedulerSessionTest, ContinuesAfterAStopInsideForcedTokens) {
  Use(100);
  Request request = Turn("a", 60, 20, false);
  request.forced_tokens = std::vector<int32_t>(90, 3);
  const auto sink = driver_->Submit(request, /*stop_after=*/5);
  driver_->RunToEnd();
  EXPECT_EQ(sink->choice(0).tokens.size(), 5);
  EXPECT_EQ(num_sequences(), 0) << "rows beyond the text were fed";
  const auto second = driver_->Submit(Turn("b", 4, 3, true));
  driver_->RunToEnd();
  EXPECT_TRUE(second->done()->ok());
  EXPECT_EQ(second->usage().session_tokens(), 65);
}

// Five sessions at once in a pool that holds two or three, groups that are lost, and cancellations.
TEST(SchedulerSessionPropertyTest, GivesEveryAnswerOfAnUndisturbedConversation) {
  constexpr int kSessions = 5;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937_64 random(seed);
    SchedulerOptions options = SmallSteps();
    options.prefix_caching = seed % 2 == 0;
    options.max_steps_in_flight = 1 + seed % 4;
    SchedulerDriver driver(options, std::make_shared<TenAllocator>());
    const uint64_t num_pages = 26 + random() % 20;
    driver.FormGroup(OneWorker(num_pages));
    std::vector<Conversation> conversations(kSessions);
    std::vector<std::pair<Request, std::shared_ptr<RecordingSink>>> running(kSessions);
    for (int event = 0; event < 1500; ++event) {
      const size_t s = random() % kSessions;
      auto& [request, sink] = running[s];
      if (sink != nullptr && sink->done().has_value()) {
        if (sink->done()->ok()) {
          ASSERT_EQ(sink->choice(0).tokens, conversations[s].Answer(request));
        } else {
          ASSERT_TRUE(absl::IsCancelled(*sink->done())) << *sink->done();
        }
        sink = nullptr;
      }
      if (sink == nullptr && conversations[s].num_tokens() < 250 && random() % 8 == 0) {
        request = Turn(absl::StrCat(s, "-", event), 1 + random() % 60, 1 + random() % 30,
                       conversations[s].num_tokens() > 0);
        request.session_id = absl::StrCat("session-", s);
        request.sampling.set_seed(random());
        if (s % 2 == 0) request.cache.set_policy("full");
        if (random() % 3 == 0) request.stop_token_ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
        sink = driver.Submit(request);
        ASSERT_TRUE(driver.last_status().ok()) << driver.last_status();
      }
      if (sink != nullptr && random() % 100 == 0) {
        driver.scheduler().Cancel(request.id, absl::CancelledError("by the test"), driver.now());
      }
      if (random() % 300 == 0) {
        driver.LoseGroup();
        driver.FormGroup(OneWorker(num_pages));
      }
      if (random() % 2 == 0) driver.Send();
      if (random() % 2 == 0 && driver.group().CanExecute(0)) driver.Answer();
      if (testing::Test::HasFatalFailure()) return;
    }
    driver.RunToEnd();
    for (const auto& [request, sink] : running) {
      if (sink != nullptr) {
        ASSERT_TRUE(sink->done().has_value());
      }
    }
    ASSERT_EQ(driver.scheduler().free_pages()[0] + driver.scheduler().cached_pages()[0],
              num_pages);
  }
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
