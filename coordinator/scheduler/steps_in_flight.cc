#include "coordinator/scheduler/steps_in_flight.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::scheduler {

StepInFlight::StepInFlight(uint64_t step_id, std::vector<WorkInFlight> work,
                           std::vector<uint64_t> used_at_most)
    : step_id_(step_id), work_(std::move(work)), used_at_most_(std::move(used_at_most)) {
  for (const WorkInFlight& work : work_) num_evicted_ += work.plan.is_evicted ? 1 : 0;
}

WorkInFlight* StepInFlight::Find(uint64_t sequence_id) {
  if (work_.empty()) return nullptr;
  if (next_ == work_.size()) next_ = 0;
  if (work_[next_].sequence_id != sequence_id) {
    if (index_.empty()) {
      for (uint32_t i = 0; i < work_.size(); ++i) index_[work_[i].sequence_id] = i;
    }
    const auto found = index_.find(sequence_id);
    if (found == index_.end()) return nullptr;
    next_ = found->second;
  }
  return &work_[next_++];
}

absl::StatusOr<StepInFlight*> StepsInFlight::BeginAnswer(uint32_t worker, uint64_t step_id) {
  if (worker >= num_answered_.size()) {
    return absl::InternalError(
        absl::StrCat("worker ", worker, ": the group has ", num_answered_.size()));
  }
  if (num_answered_[worker] == steps_.size()) {
    return absl::InternalError(absl::StrCat("worker ", worker, ": result of step_id ", step_id,
                                            ", but every Step sent was answered"));
  }
  StepInFlight& step = steps_[num_answered_[worker]];
  if (step.step_id() != step_id) {
    return absl::InternalError(absl::StrCat("worker ", worker, ": result of step_id ", step_id,
                                            ", expected ", step.step_id()));
  }
  return &step;
}

bool StepsInFlight::IsLastAnswer(uint32_t worker) const {
  for (uint32_t other = 0; other < num_answered_.size(); ++other) {
    if (other != worker && num_answered_[other] == 0) return false;
  }
  return num_answered_[worker] == 0;
}

absl::Status StepsInFlight::EndAnswer(uint32_t worker) {
  ++num_answered_[worker];
  if (*std::min_element(num_answered_.begin(), num_answered_.end()) == 0) return absl::OkStatus();
  StepInFlight step = std::move(steps_.front());
  steps_.pop_front();
  for (size_t& num_answered : num_answered_) --num_answered;
  for (const WorkInFlight& work : step.work()) {
    if (work.is_answered()) continue;
    return absl::InternalError(absl::StrCat(
        "step ", step.step_id(), ": no worker gave the result of sequence ", work.sequence_id, ": ",
        work.num_sampled, " tokens of ", work.plan.num_samples, ", ",
        work.is_scored ? work.plan.num_scored : 0, " scores of ", work.plan.num_scored, ", ",
        work.num_curves, " curves of ", work.plan.num_curves));
  }
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::scheduler
