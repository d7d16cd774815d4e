#include "coordinator/cluster/worker_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "coordinator/cluster/stage_speeds.h"

namespace kvec::coordinator::cluster {
namespace {

constexpr absl::Duration kFirstDelay = absl::Milliseconds(250);
constexpr absl::Duration kMaxDelay = absl::Seconds(30);

absl::Status CheckGroupReady(const Member& member, const v1::GroupReady& ready,
                             uint32_t step_tokens) {
  if (ready.total_pages() == 0 || ready.page_bytes() == 0 || ready.num_kv_heads() == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group_ready of ", member.Name(), ": total_pages ", ready.total_pages(), ", page_bytes ",
        ready.page_bytes(), ", num_kv_heads ", ready.num_kv_heads(), "; none may be 0"));
  }
  if (ready.num_repeated_kv_heads() > ready.num_kv_heads()) {
    return absl::InvalidArgumentError(
        absl::StrCat("group_ready of ", member.Name(), ": num_repeated_kv_heads ",
                     ready.num_repeated_kv_heads(), " of ", ready.num_kv_heads()));
  }
  if (ready.max_step_tokens() < step_tokens) {
    return absl::FailedPreconditionError(absl::StrCat(
        "group_ready.max_step_tokens of ", member.Name(), ": ", ready.max_step_tokens(),
        ", the coordinator sends Steps of up to ", step_tokens, " tokens"));
  }
  return absl::OkStatus();
}

}  // namespace

bool WorkerGroup::Contains(uint64_t id) const {
  return std::find(workers_.begin(), workers_.end(), id) != workers_.end();
}

bool WorkerGroup::has_requests() const {
  const scheduler::SchedulerCounts counts = scheduler_.counts();
  return counts.num_running + counts.num_waiting > 0;
}

void WorkerGroup::Form(uint64_t epoch, const ParallelShape& shape, std::vector<uint64_t> workers) {
  epoch_ = epoch;
  num_ranks_ = shape.num_ranks;
  workers_ = std::move(workers);
  v1::FormGroup form;
  form.set_group_epoch(epoch_);
  form.set_sentence_end_bits(options_.sentence_end_bits);
  form.set_num_replicas(shape.num_replicas);
  std::vector<const v1::Register*> registrations;
  for (uint64_t id : workers_) {
    registrations.push_back(&membership_.Find(id)->registration);
    form.add_comm_addresses(registrations.back()->comm_address());
  }
  std::vector<v1::Placement> placements =
      PlaceWorkers(shape, options_.model_bytes, StageSpeeds(shape, registrations));
  if (!WeightsFit(shape, options_.model_bytes, placements, registrations)) {
    placements = PlaceWorkers(shape, options_.model_bytes);
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    Member* member = membership_.Find(workers_[i]);
    member->state = Member::State::kLoading;
    member->replica = replica_;
    member->placement = placements[i];
    *form.mutable_placement() = placements[i];
    v1::CoordinatorMessage message;
    *message.mutable_form_group() = form;
    member->link->Send(std::move(message));
  }
  LOG(INFO) << "group " << epoch_ << ": replica " << replica_ << " formed of " << workers_.size()
            << " workers";
}

absl::Status WorkerGroup::OnGroupReady(uint64_t id, const v1::GroupReady& ready, absl::Time now) {
  if (ready.group_epoch() != epoch_) return absl::OkStatus();  // of a group that is gone
  Member* member = membership_.Find(id);
  KVEC_RETURN_IF_ERROR(CheckGroupReady(*member, ready, options_.step_tokens));
  member->ready = ready;
  member->state = Member::State::kReady;
  LOG(INFO) << member->Name() << ": ready in group " << epoch_ << ", " << ready.total_pages()
            << " pages of " << ready.page_bytes() << " bytes";

  std::vector<scheduler::WorkerCapacity> capacities;
  for (uint64_t other : workers_) {
    const Member* worker = membership_.Find(other);
    if (worker->state != Member::State::kReady) return absl::OkStatus();
    capacities.push_back(CapacityOf(*worker));
  }
  if (std::exchange(ready_, true)) return absl::OkStatus();
  tracer_.BeginGroup(TraceRows());
  scheduler_.OnGroupReady(epoch_, std::move(capacities), now);
  return absl::OkStatus();
}

void WorkerGroup::OnStepResult(uint64_t id, const v1::StepResult& result, absl::Time now) {
  if (!ready_ || result.group_epoch() != epoch_) return;
  Member* member = membership_.Find(id);
  member->last_step_ms = result.execute_ms();
  if (absl::Status status = scheduler_.OnStepResult(IndexOf(id), result, now); !status.ok()) {
    BreakAndPutOff(
        absl::StrCat(member->Name(), ": step ", result.step_id(), ": ", status.ToString()), now);
    return;
  }
  failures_in_a_row_ = 0;
  options_.on_step_result(result);
}

void WorkerGroup::OnWorkerError(uint64_t id, const v1::WorkerError& error, absl::Time now) {
  if (error.group_epoch() != epoch_) return;
  BreakAndPutOff(absl::StrCat(membership_.Find(id)->Name(), ": ",
                              absl::StatusCodeToString(static_cast<absl::StatusCode>(error.code())),
                              ": ", error.message()),
                 now);
}

bool WorkerGroup::LetLeaversGo(absl::Time now) {
  std::vector<Member*> leavers;
  for (uint64_t id : workers_) {
    Member* member = membership_.Find(id);
    if (member->is_leaving) leavers.push_back(member);
  }
  if (leavers.empty()) return false;
  if (ready_ && membership_.Spares().size() < leavers.size() &&
      scheduler_.counts().num_running > 0) {
    scheduler_.HoldStarts();
    return false;
  }
  Break(absl::StrCat(leavers.front()->Name(), " leaves"), now);
  for (Member* member : leavers) member->LetGo();
  return true;
}

void WorkerGroup::Break(absl::string_view reason, absl::Time now) {
  if (workers_.empty()) return;
  LOG(WARNING) << "group " << epoch_ << ": broken: " << reason;
  for (uint64_t id : std::exchange(workers_, {})) {
    Member* member = membership_.Find(id);
    if (member == nullptr) continue;  // the lost one
    member->state = Member::State::kAborting;
    v1::CoordinatorMessage message;
    message.mutable_abort_group()->set_reason(std::string(reason));
    member->link->Send(std::move(message));
    // It was waiting for the lost one.
    member->alive_at = now;
  }
  lost_at_ = now;
  if (std::exchange(ready_, false)) {
    tracer_.EndGroup();
    scheduler_.OnGroupLost(now);
  }
}

void WorkerGroup::BreakAndPutOff(absl::string_view reason, absl::Time now) {
  const absl::Duration delay =
      std::min(kMaxDelay, kFirstDelay * (int64_t{1} << std::min(failures_in_a_row_, 10)));
  ++failures_in_a_row_;
  form_not_before_ = now + delay;
  Break(reason, now);
}

void WorkerGroup::SendStep(const v1::Step& step) {
  if (!ready_ || step.group_epoch() != epoch_) return;
  for (uint64_t id : workers_) {
    v1::CoordinatorMessage message;
    *message.mutable_step() = step;
    membership_.Find(id)->link->Send(std::move(message));
  }
}

void WorkerGroup::TraceResult(uint64_t id, const v1::StepResult& result, absl::Time begin,
                              absl::Time now) {
  if (!ready_ || result.group_epoch() != epoch_) return;
  tracer_.OnResult(IndexOf(id), result, begin, now);
}

void WorkerGroup::AddPages(absl::Span<v1::WorkerStatus*> statuses) const {
  const std::vector<uint64_t> free_pages = scheduler_.free_pages();
  const std::vector<uint64_t> cached_pages = scheduler_.cached_pages();
  for (v1::WorkerStatus* status : statuses) {
    const size_t index = status->stage() * num_ranks_ + status->rank();
    if (index >= free_pages.size() || index >= cached_pages.size()) continue;
    // Reports lag behind what is cached.
    status->set_free_pages(
        std::min(status->total_pages(), free_pages[index] + cached_pages[index]));
    status->set_cached_pages(cached_pages[index]);
  }
}

uint32_t WorkerGroup::IndexOf(uint64_t id) const {
  return static_cast<uint32_t>(std::find(workers_.begin(), workers_.end(), id) - workers_.begin());
}

scheduler::WorkerCapacity WorkerGroup::CapacityOf(const Member& member) const {
  scheduler::WorkerCapacity capacity;
  capacity.total_pages = member.ready.total_pages();
  capacity.page_bytes = member.ready.page_bytes();
  capacity.stage = member.placement.stage();
  capacity.num_kv_heads = member.ready.num_kv_heads();
  capacity.num_repeated_kv_heads = member.ready.num_repeated_kv_heads();
  const auto first = options_.sliding_windows.begin() + member.placement.first_layer();
  capacity.sliding_windows.assign(first, first + member.placement.num_layers());
  return capacity;
}

std::vector<v1::TraceRow> WorkerGroup::TraceRows() {
  std::vector<v1::TraceRow> rows;
  for (uint64_t id : workers_) {
    const Member& member = *membership_.Find(id);
    v1::TraceRow& row = rows.emplace_back();
    row.set_name(member.registration.worker_id());
    row.set_host(member.registration.host());
    row.set_stage(member.placement.stage());
    row.set_rank(member.placement.rank());
  }
  return rows;
}

}  // namespace kvec::coordinator::cluster
