#include "coordinator/cluster/worker_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "coordinator/cluster/seating.h"
#include "coordinator/cluster/shape_choice.h"

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

void WorkerGroup::OnAttach(uint64_t id, std::shared_ptr<WorkerLink> link, absl::Time now) {
  membership_.Add(id, std::move(link), now);
}

void WorkerGroup::OnMessage(uint64_t id, const v1::WorkerMessage& message, absl::Time now) {
  Member* member = membership_.Find(id);
  if (member == nullptr) return;
  membership_.Hear(*member, message, now);
  if (member->state == Member::State::kConnected && !message.has_register_()) {
    Drop(id, absl::InvalidArgumentError("the first message of a worker must be register"), now);
    return;
  }
  switch (message.message_case()) {
    case v1::WorkerMessage::kRegister:
      OnRegister(id, message.register_(), now);
      break;
    case v1::WorkerMessage::kGroupReady:
      OnGroupReady(id, message.group_ready(), now);
      break;
    case v1::WorkerMessage::kStepResult:
      OnStepResult(id, message.step_result(), now);
      break;
    case v1::WorkerMessage::kError:
      OnWorkerError(id, message.error(), now);
      break;
    case v1::WorkerMessage::kLeaving:
      OnLeaving(id, now);
      break;
    case v1::WorkerMessage::kGroupAborted:
      OnGroupAborted(id, message.group_aborted(), now);
      break;
    case v1::WorkerMessage::kHeartbeat:
      break;
    case v1::WorkerMessage::MESSAGE_NOT_SET:
      Drop(id, absl::InvalidArgumentError("a message of the worker is empty"), now);
      break;
  }
}

void WorkerGroup::OnDetach(uint64_t id, absl::Time now) {
  const Member* member = membership_.Find(id);
  if (member == nullptr) return;
  if (member->state == Member::State::kDraining) {
    LOG(INFO) << member->Name() << ": left";
    membership_.Remove(id, now);
    return;
  }
  Drop(id, absl::UnavailableError("the worker's stream ended"), now);
}

void WorkerGroup::OnTimeouts(absl::Time now) {
  for (uint64_t id : membership_.Silent(now)) {
    // Losing one worker starts the others' timeouts anew, so ask again.
    const Member* member = membership_.Find(id);
    if (now - member->alive_at < options_.membership.heartbeat_timeout) continue;
    Drop(id,
         absl::UnavailableError(
             absl::StrCat("no heartbeat with progress for ",
                          absl::FormatDuration(options_.membership.heartbeat_timeout))),
         now);
  }
  TryForm(now);
}

absl::Time WorkerGroup::NextTimeout() const {
  absl::Time next = membership_.NextTimeout();
  if (!group_.empty()) return next;
  if (!WorkersForShape().empty()) return std::min(next, form_not_before_);
  if (options_.shape.has_value() || membership_.Spares().empty()) return next;
  return std::min(next, std::max(form_not_before_, choose_not_before_));
}

void WorkerGroup::SendStep(const v1::Step& step) {
  if (!ready_ || step.group_epoch() != epoch_) return;
  for (uint64_t id : group_) {
    v1::CoordinatorMessage message;
    *message.mutable_step() = step;
    membership_.Find(id)->link->Send(std::move(message));
  }
}

void WorkerGroup::TraceResult(uint64_t id, const v1::StepResult& result, absl::Time begin,
                              absl::Time now) {
  if (!ready_ || !InGroup(id) || result.group_epoch() != epoch_) return;
  tracer_.OnResult(IndexOf(id), result, begin, now);
}

std::vector<v1::TraceRow> WorkerGroup::TraceRows() {
  std::vector<v1::TraceRow> rows;
  for (uint64_t id : group_) {
    const Member& member = *membership_.Find(id);
    v1::TraceRow& row = rows.emplace_back();
    row.set_name(member.registration.worker_id());
    row.set_host(member.registration.host());
    row.set_stage(member.placement.stage());
    row.set_rank(member.placement.rank());
  }
  return rows;
}

void WorkerGroup::Shutdown(absl::Time now) {
  Break("the coordinator shuts down", now);
  for (const auto& [id, member] : membership_.members()) {
    member.link->Close(absl::UnavailableError("the coordinator shuts down"));
  }
}

std::vector<v1::WorkerStatus> WorkerGroup::Statuses(absl::Time now) const {
  std::vector<v1::WorkerStatus> statuses = membership_.Statuses(now);
  if (!ready_) return statuses;
  const std::vector<uint64_t> free_pages = scheduler_.free_pages();
  const std::vector<uint64_t> cached_pages = scheduler_.cached_pages();
  for (v1::WorkerStatus& status : statuses) {
    const size_t index = status.stage() * shape_->num_ranks + status.rank();
    if (status.state() == StateName(Member::State::kReady) && index < free_pages.size() &&
        index < cached_pages.size()) {
      // Reports lag behind what is cached.
      status.set_free_pages(
          std::min(status.total_pages(), free_pages[index] + cached_pages[index]));
      status.set_cached_pages(cached_pages[index]);
    }
  }
  return statuses;
}

void WorkerGroup::OnRegister(uint64_t id, const v1::Register& registration, absl::Time now) {
  Member* member = membership_.Find(id);
  if (member->state != Member::State::kConnected) {
    Drop(id, absl::InvalidArgumentError("register: sent twice"), now);
    return;
  }
  if (absl::Status status = membership_.Register(id, registration, now); !status.ok()) {
    Drop(id, status, now);
    return;
  }
  LOG(INFO) << member->Name() << ": attached from " << registration.host() << ", device "
            << registration.device();
  choose_not_before_ = std::max(keep_shape_until_, now + options_.attach_patience);
  LetLeaversGo(now);
  TryForm(now);
}

void WorkerGroup::OnGroupReady(uint64_t id, const v1::GroupReady& ready, absl::Time now) {
  if (!InGroup(id) || ready.group_epoch() != epoch_) return;  // of a group that is gone
  Member* member = membership_.Find(id);
  if (absl::Status status = CheckGroupReady(*member, ready, options_.step_tokens); !status.ok()) {
    Drop(id, status, now);
    return;
  }
  member->ready = ready;
  member->state = Member::State::kReady;
  LOG(INFO) << member->Name() << ": ready in group " << epoch_ << ", " << ready.total_pages()
            << " pages of " << ready.page_bytes() << " bytes";

  std::vector<scheduler::WorkerCapacity> capacities;
  for (uint64_t other : group_) {
    const Member* worker = membership_.Find(other);
    if (worker->state != Member::State::kReady) return;
    capacities.push_back(CapacityOf(*worker));
  }
  if (std::exchange(ready_, true)) return;
  tracer_.BeginGroup(TraceRows());
  scheduler_.OnGroupReady(epoch_, std::move(capacities), now);
  options_.on_ready_changed(true);
}

void WorkerGroup::OnStepResult(uint64_t id, const v1::StepResult& result, absl::Time now) {
  if (!ready_ || !InGroup(id) || result.group_epoch() != epoch_) return;
  Member* member = membership_.Find(id);
  member->last_step_ms = result.execute_ms();
  if (absl::Status status = scheduler_.OnStepResult(IndexOf(id), result, now); !status.ok()) {
    BreakAndPutOff(
        absl::StrCat(member->Name(), ": step ", result.step_id(), ": ", status.ToString()), now);
    return;
  }
  failures_in_a_row_ = 0;
  options_.on_step_result(result);
  LetLeaversGo(now);
}

void WorkerGroup::OnWorkerError(uint64_t id, const v1::WorkerError& error, absl::Time now) {
  if (!InGroup(id) || error.group_epoch() != epoch_) return;
  BreakAndPutOff(absl::StrCat(membership_.Find(id)->Name(), ": ",
                              absl::StatusCodeToString(static_cast<absl::StatusCode>(error.code())),
                              ": ", error.message()),
                 now);
}

void WorkerGroup::OnLeaving(uint64_t id, absl::Time now) {
  Member* member = membership_.Find(id);
  member->is_leaving = true;
  LOG(INFO) << member->Name() << ": leaves";
  if (InGroup(id)) {
    LetLeaversGo(now);
  } else {
    LetGo(*member);
  }
}

void WorkerGroup::LetGo(Member& member) {
  member.state = Member::State::kDraining;
  member.link->Close(absl::OkStatus());
}

void WorkerGroup::LetLeaversGo(absl::Time now) {
  std::vector<Member*> leavers;
  for (uint64_t id : group_) {
    Member* member = membership_.Find(id);
    if (member->is_leaving) leavers.push_back(member);
  }
  if (leavers.empty()) return;
  if (ready_ && membership_.Spares().size() < leavers.size() &&
      scheduler_.counts().num_running > 0) {
    scheduler_.HoldStarts();
    return;
  }
  Break(absl::StrCat(leavers.front()->Name(), " leaves"), now);
  for (Member* member : leavers) LetGo(*member);
  TryForm(now);
}

void WorkerGroup::OnGroupAborted(uint64_t id, const v1::GroupAborted& aborted, absl::Time now) {
  Member* member = membership_.Find(id);
  if (member->state == Member::State::kDraining) return;
  if (member->state != Member::State::kAborting) {
    Drop(id, absl::InvalidArgumentError("group_aborted: no group was to be aborted"), now);
    return;
  }
  member->registration.set_comm_address(aborted.comm_address());
  member->state = Member::State::kAttached;
  choose_not_before_ = keep_shape_until_;
  TryForm(now);
}

std::vector<uint64_t> WorkerGroup::WorkersForShape() const {
  std::vector<uint64_t> spares = membership_.Spares();
  if (!shape_.has_value() || spares.size() < static_cast<size_t>(shape_->num_workers())) return {};
  spares.resize(shape_->num_workers());
  return spares;
}

std::vector<uint64_t> WorkerGroup::ChooseShapeAndWorkers(absl::Time now) {
  if (options_.shape.has_value() || now < choose_not_before_) return {};
  std::vector<AvailableWorker> available;
  for (uint64_t id : membership_.Spares()) {
    const v1::Register& registration = membership_.Find(id)->registration;
    available.push_back({.id = id,
                         .host = registration.host(),
                         .memory_bytes = registration.memory_bytes(),
                         .shares_memory = registration.shares_memory()});
  }
  if (available.empty()) return {};
  absl::StatusOr<ShapeChoice> choice = ChooseShape(available, options_.model, options_.model_bytes);
  if (!choice.ok()) {
    LOG(WARNING) << "no group: " << choice.status().message();
    choose_not_before_ = absl::InfiniteFuture();  // until another worker attaches
    return {};
  }
  shape_ = choice->shape;
  LOG(INFO) << "shape: tp=" << shape_->num_ranks << ",pp=" << shape_->num_stages << " of "
            << available.size() << " workers";
  return std::move(choice->workers);
}

std::vector<uint64_t> WorkerGroup::ChooseWorkers(absl::Time now) {
  std::vector<uint64_t> chosen = WorkersForShape();
  if (chosen.empty()) chosen = ChooseShapeAndWorkers(now);
  if (chosen.empty()) return {};
  std::vector<SeatCandidate> candidates;
  for (uint64_t id : chosen) {
    const Member* member = membership_.Find(id);
    const v1::Placement& last = member->placement;
    SeatCandidate& candidate = candidates.emplace_back();
    candidate.id = id;
    candidate.host = member->registration.host();
    if (last.num_ranks() == static_cast<uint32_t>(shape_->num_ranks) &&
        last.num_stages() == static_cast<uint32_t>(shape_->num_stages)) {
      candidate.last_seat = static_cast<int>(last.stage() * last.num_ranks() + last.rank());
    }
  }
  return SeatWorkers(*shape_, candidates);
}

void WorkerGroup::TryForm(absl::Time now) {
  if (!group_.empty() || now < form_not_before_) return;
  group_ = ChooseWorkers(now);
  if (group_.empty()) return;
  ++epoch_;
  v1::FormGroup form;
  form.set_group_epoch(epoch_);
  form.set_sentence_end_bits(options_.sentence_end_bits);
  for (uint64_t id : group_) {
    form.add_comm_addresses(membership_.Find(id)->registration.comm_address());
  }
  const std::vector<v1::Placement> placements = PlaceWorkers(*shape_, options_.model_bytes);
  for (size_t i = 0; i < group_.size(); ++i) {
    Member* member = membership_.Find(group_[i]);
    member->state = Member::State::kLoading;
    member->placement = placements[i];
    *form.mutable_placement() = placements[i];
    v1::CoordinatorMessage message;
    *message.mutable_form_group() = form;
    member->link->Send(std::move(message));
  }
  LOG(INFO) << "group " << epoch_ << ": formed of " << group_.size() << " workers";
}

void WorkerGroup::Break(absl::string_view reason, absl::Time now) {
  if (group_.empty()) return;
  LOG(WARNING) << "group " << epoch_ << ": broken: " << reason;
  for (uint64_t id : std::exchange(group_, {})) {
    Member* member = membership_.Find(id);
    if (member == nullptr) continue;  // the lost one
    member->state = Member::State::kAborting;
    v1::CoordinatorMessage message;
    message.mutable_abort_group()->set_reason(std::string(reason));
    member->link->Send(std::move(message));
  }
  membership_.RestartTimeouts(now);
  keep_shape_until_ = now + options_.shape_patience;
  choose_not_before_ = keep_shape_until_;
  if (std::exchange(ready_, false)) {
    tracer_.EndGroup();
    scheduler_.OnGroupLost(now);
    options_.on_ready_changed(false);
  }
}

void WorkerGroup::BreakAndPutOff(absl::string_view reason, absl::Time now) {
  const absl::Duration delay =
      std::min(kMaxDelay, kFirstDelay * (int64_t{1} << std::min(failures_in_a_row_, 10)));
  ++failures_in_a_row_;
  form_not_before_ = now + delay;
  Break(reason, now);
}

void WorkerGroup::Drop(uint64_t id, const absl::Status& status, absl::Time now) {
  Member* member = membership_.Find(id);
  const std::string name = member->Name();
  const bool in_group = InGroup(id);
  LOG(WARNING) << name << ": dropped: " << status.ToString();
  member->link->Close(status);
  membership_.Remove(id, now);
  if (in_group) Break(absl::StrCat(name, ": ", status.ToString()), now);
  TryForm(now);
}

bool WorkerGroup::InGroup(uint64_t id) const {
  return std::find(group_.begin(), group_.end(), id) != group_.end();
}

uint32_t WorkerGroup::IndexOf(uint64_t id) const {
  return static_cast<uint32_t>(std::find(group_.begin(), group_.end(), id) - group_.begin());
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

}  // namespace kvec::coordinator::cluster
