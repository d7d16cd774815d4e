#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/coordinator/scheduler/scheduler_driver.h"

namespace kvec::coordinator::scheduler {
namespace {

using testing::ElementsAre;

std::vector<std::string> States(SchedulerDriver& driver) {
  std::vector<std::string> states;
  for (const v1::RequestStatus& status : driver.scheduler().RequestStatuses(100, driver.now())) {
    states.push_back(status.request_id() + " " + status.state());
  }
  return states;
}

TEST(RequestStatusTest, FollowsARequestFromTheQueueToItsEnd) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 40, 3));
  EXPECT_THAT(States(driver), ElementsAre("a waiting"));
  driver.SendAndAnswer();
  auto status = driver.scheduler().RequestStatuses(1, driver.now()).at(0);
  EXPECT_EQ(status.state(), "prefill");
  EXPECT_EQ(status.prompt_tokens(), 40);
  EXPECT_EQ(status.prompt_tokens_fed(), 32);
  EXPECT_EQ(status.generated_tokens(), 0);
  EXPECT_DOUBLE_EQ(status.age_seconds(), 0.001);
  driver.SendAndAnswer();
  driver.SendAndAnswer();
  status = driver.scheduler().RequestStatuses(1, driver.now()).at(0);
  EXPECT_EQ(status.state(), "decode");
  EXPECT_EQ(status.prompt_tokens_fed(), 40);
  EXPECT_EQ(status.generated_tokens(), 2);
  driver.RunToEnd();
  EXPECT_TRUE(driver.scheduler().RequestStatuses(100, driver.now()).empty());
}

TEST(RequestStatusTest, TellsOfTheOldestOnly) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const char* id : {"c", "a", "b"}) sinks.push_back(driver.Submit(MakeRequest(id, 20, 3)));
  EXPECT_THAT(States(driver), ElementsAre("c waiting", "a waiting", "b waiting"));
  EXPECT_EQ(driver.scheduler().RequestStatuses(2, driver.now()).size(), 2);
  EXPECT_TRUE(driver.scheduler().RequestStatuses(0, driver.now()).empty());
}

TEST(RequestStatusTest, TellsOfRequestsThatLostTheirWorkers) {
  SchedulerDriver driver(SmallSteps());
  driver.FormGroup(OneWorker(100));
  const auto sink = driver.Submit(MakeRequest("a", 20, 5));
  driver.SendAndAnswer();
  driver.LoseGroup();
  EXPECT_THAT(States(driver), ElementsAre("a waiting"));
}

TEST(RequestStatusTest, PromptsBeyondTheLimitAreRefused) {
  SchedulerOptions options = SmallSteps();
  options.max_prompt_tokens = 20;
  SchedulerDriver driver(options);
  driver.FormGroup(OneWorker(100));
  driver.Submit(MakeRequest("long", 21, 1));
  EXPECT_EQ(driver.last_status(),
            absl::InvalidArgumentError("prompt: 21 tokens, this server takes at most 20"));
  driver.Submit(MakeRequest("short", 20, 1));
  EXPECT_TRUE(driver.last_status().ok());
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
