#include "coordinator/scheduler/wait_queue.h"

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::scheduler {

absl::Status WaitQueue::CheckRoom(uint32_t prompt_tokens) const {
  if (num_new_requests_ >= max_requests_) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "queue is full: ", num_new_requests_, " requests wait, at most ", max_requests_, " may"));
  }
  if (num_new_tokens_ + prompt_tokens > max_tokens_) {
    return absl::ResourceExhaustedError(absl::StrCat("queue is full: ", num_new_tokens_,
                                                     " prompt tokens wait, with ", prompt_tokens,
                                                     " more they were beyond ", max_tokens_));
  }
  return absl::OkStatus();
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
