#include "coordinator/scheduler/wait_queue.h"

#include <deque>
#include <memory>
#include <vector>

#include "common/retry_after.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

std::shared_ptr<RequestState> MakeState(uint64_t arrival, int32_t priority,
                                        uint32_t prompt_tokens) {
  Request request;
  request.prompt.assign(prompt_tokens, 1);
  request.priority = priority;
  request.max_tokens = 1;
  return std::make_shared<RequestState>(std::move(request), arrival, absl::UnixEpoch());
}

TEST(WaitQueueTest, ServesHigherPrioritiesFirstAndThenInOrderOfArrival) {
  WaitQueue queue(10, 1000);
  const std::vector<std::shared_ptr<RequestState>> states = {
      MakeState(1, 0, 5), MakeState(2, 7, 5), MakeState(3, 7, 5), MakeState(4, -1, 5)};
  for (const auto& state : states) queue.Add(&state->choices[0]);
  std::vector<uint64_t> arrivals;
  while (queue.head() != nullptr) {
    arrivals.push_back(queue.head()->request().arrival);
    queue.Remove(queue.head());
  }
  EXPECT_EQ(arrivals, (std::vector<uint64_t>{2, 3, 1, 4}));
}

TEST(WaitQueueTest, RefusesOneRequestTooMany) {
  WaitQueue queue(2, 1000);
  const auto first = MakeState(1, 0, 5);
  const auto second = MakeState(2, 0, 5);
  queue.Add(&first->choices[0]);
  EXPECT_TRUE(queue.CheckRoom(5, absl::UnixEpoch()).ok());
  queue.Add(&second->choices[0]);
  const absl::Status status = queue.CheckRoom(5, absl::UnixEpoch());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("2 requests wait"), std::string::npos) << status;
}

TEST(WaitQueueTest, RefusesOneTokenTooMany) {
  WaitQueue queue(10, 100);
  const auto first = MakeState(1, 0, 90);
  queue.Add(&first->choices[0]);
  EXPECT_TRUE(queue.CheckRoom(10, absl::UnixEpoch()).ok());
  const absl::Status status = queue.CheckRoom(11, absl::UnixEpoch());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(status.message().find("90 prompt tokens"), std::string::npos) << status;
}

TEST(WaitQueueTest, ARefusedRequestIsToComeBackAfterAsLongAsTheFirstHasWaited) {
  WaitQueue queue(1, 1000);
  const auto first = MakeState(1, 0, 5);
  queue.Add(&first->choices[0]);
  const auto pause_after = [&](absl::Duration waited) {
    return RetryAfter(queue.CheckRoom(5, absl::UnixEpoch() + waited));
  };
  EXPECT_EQ(pause_after(absl::Seconds(3)), absl::Seconds(3));
  EXPECT_EQ(pause_after(absl::ZeroDuration()), absl::Milliseconds(100));
  EXPECT_EQ(pause_after(absl::Hours(1)), absl::Seconds(10));
}

TEST(WaitQueueTest, DoesNotCountPreemptedRequests) {
  WaitQueue queue(1, 100);
  const auto preempted = MakeState(1, 0, 90);
  preempted->was_started = true;
  queue.Add(&preempted->choices[0]);
  EXPECT_EQ(queue.num_new_requests(), 0);
  EXPECT_EQ(queue.num_new_tokens(), 0);
  EXPECT_TRUE(queue.CheckRoom(100, absl::UnixEpoch()).ok());
}

TEST(WaitQueueTest, ForgetsWhatIsRemoved) {
  WaitQueue queue(1, 100);
  const auto state = MakeState(1, 0, 90);
  queue.Add(&state->choices[0]);
  queue.Remove(&state->choices[0]);
  queue.Remove(&state->choices[0]);
  EXPECT_EQ(queue.head(), nullptr);
  EXPECT_EQ(queue.num_new_requests(), 0);
  EXPECT_EQ(queue.num_new_tokens(), 0);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
