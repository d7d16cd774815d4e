#include "coordinator/scheduler/wait_queue.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/retry_after.h"

namespace kvec::coordinator::scheduler {
namespace {

// A client that comes back at once is refused again, one that waits for long leaves slots empty.
constexpr absl::Duration kShortestPause = absl::Milliseconds(100);
constexpr absl::Duration kLongestPause = absl::Seconds(10);

}  // namespace

absl::Status WaitQueue::CheckRoom(uint32_t prompt_tokens, absl::Time now) const {
  if (num_new_requests_ >= max_requests_) {
    return Refusal(
        absl::StrCat(num_new_requests_, " requests wait, at most ", max_requests_, " may"), now);
  }
  if (num_new_tokens_ + prompt_tokens > max_tokens_) {
    return Refusal(absl::StrCat(num_new_tokens_, " prompt tokens wait, with ", prompt_tokens,
                                " more they were beyond ", max_tokens_),
                   now);
  }
  return absl::OkStatus();
}

absl::Status WaitQueue::Refusal(absl::string_view reason, absl::Time now) const {
  absl::Status refusal = absl::ResourceExhaustedError(absl::StrCat("queue is full: ", reason));
  absl::Duration waited = absl::ZeroDuration();
  if (head() != nullptr) waited = now - head()->request().metrics.arrival();
  SetRetryAfter(std::clamp(waited, kShortestPause, kLongestPause), refusal);
  return refusal;
}

void WaitQueue::Add(Sequence* sequence) {
  if (!sequences_.insert(sequence).second || sequence->request().was_started) return;
  ++num_new_requests_;
  num_new_tokens_ += sequence->request().prompt_tokens();
}

void WaitQueue::Remove(Sequence* sequence) {
  if (sequences_.erase(sequence) == 0 || sequence->request().was_started) return;
  --num_new_requests_;
  num_new_tokens_ -= sequence->request().prompt_tokens();
}

}  // namespace kvec::coordinator::scheduler
