#include "coordinator/cluster/replica_set.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "coordinator/cluster/seating.h"
#include "coordinator/cluster/shape_choice.h"

namespace kvec::coordinator::cluster {

ReplicaSet::ReplicaSet(Options options, const std::vector<scheduler::Scheduler*>& schedulers)
    : options_(std::move(options)), membership_(options_.membership), shape_(options_.shape) {
  for (scheduler::Scheduler* scheduler : schedulers) {
    groups_.push_back(std::make_unique<WorkerGroup>(static_cast<uint32_t>(groups_.size()),
                                                    options_.group, membership_, *scheduler));
  }
}

void ReplicaSet::OnAttach(uint64_t id, std::shared_ptr<WorkerLink> link, absl::Time now) {
  membership_.Add(id, std::move(link), now);
}

void ReplicaSet::OnMessage(uint64_t id, const v1::WorkerMessage& message, absl::Time now) {
  Member* member = membership_.Find(id);
  if (member == nullptr) return;
  membership_.Hear(*member, message, now);
  if (member->state == Member::State::kConnected && !message.has_register_()) {
    Drop(id, absl::InvalidArgumentError("the first message of a worker must be register"), now);
  } else {
    Read(*member, id, message, now);
  }
  TellReady();
}

void ReplicaSet::Read(Member& member, uint64_t id, const v1::WorkerMessage& message,
                      absl::Time now) {
  WorkerGroup* group = GroupOf(id);
  switch (message.message_case()) {
    case v1::WorkerMessage::kRegister:
      OnRegister(id, message.register_(), now);
      break;
    case v1::WorkerMessage::kGroupReady:
      if (group == nullptr) break;
      if (absl::Status status = group->OnGroupReady(id, message.group_ready(), now); !status.ok()) {
        Drop(id, status, now);
      }
      break;
    case v1::WorkerMessage::kStepResult:
      if (group == nullptr) break;
      group->OnStepResult(id, message.step_result(), now);
      if (group->LetLeaversGo(now)) TryForm(now);
      break;
    case v1::WorkerMessage::kError:
      if (group != nullptr) group->OnWorkerError(id, message.error(), now);
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

void ReplicaSet::OnDetach(uint64_t id, absl::Time now) {
  const Member* member = membership_.Find(id);
  if (member == nullptr) return;
  if (member->state == Member::State::kDraining) {
    LOG(INFO) << member->Name() << ": left";
    membership_.Remove(id, now);
    return;
  }
  Drop(id, absl::UnavailableError("the worker's stream ended"), now);
  TellReady();
}

void ReplicaSet::OnTimeouts(absl::Time now) {
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
  TellReady();
}

absl::Time ReplicaSet::NextTimeout() const {
  absl::Time next = std::min(membership_.NextTimeout(), ChooseTime());
  const std::vector<WorkerGroup*> unformed = Unformed();
  if (unformed.empty() || WorkersForShape().empty()) return next;
  for (const WorkerGroup* group : unformed) next = std::min(next, group->form_not_before());
  return next;
}

WorkerGroup* ReplicaSet::GroupOf(uint64_t id) const {
  for (const auto& group : groups_) {
    if (group->Contains(id)) return group.get();
  }
  return nullptr;
}

absl::Status ReplicaSet::StartTrace(uint64_t trace_id, const v1::TraceRequest& request,
                                    StepTracer::Done done, absl::Time now) {
  if (request.replica() >= num_replicas()) {
    return absl::InvalidArgumentError(
        absl::StrCat("replica: ", request.replica(), ", there are ", num_replicas()));
  }
  return groups_[request.replica()]->tracer().Start(trace_id, request, std::move(done), now);
}

void ReplicaSet::CancelTrace(uint64_t trace_id) {
  for (const auto& group : groups_) group->tracer().Cancel(trace_id);
}

absl::Time ReplicaSet::NextTraceDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& group : groups_) next = std::min(next, group->tracer().deadline());
  return next;
}

void ReplicaSet::FinishTraces(absl::Time now) {
  for (const auto& group : groups_) {
    if (group->tracer().deadline() <= now) group->tracer().Finish();
  }
}

std::vector<std::function<void()>> ReplicaSet::TakeEndedTraces() {
  std::vector<std::function<void()>> ended;
  for (const auto& group : groups_) {
    for (auto& done : group->tracer().TakeEnded()) ended.push_back(std::move(done));
  }
  return ended;
}

void ReplicaSet::Shutdown(absl::Time now) {
  for (const auto& group : groups_) group->Break("the coordinator shuts down", now);
  TellReady();
  for (const auto& [id, member] : membership_.members()) {
    member.link->Close(absl::UnavailableError("the coordinator shuts down"));
  }
}

std::vector<v1::WorkerStatus> ReplicaSet::Statuses(absl::Time now) const {
  std::vector<v1::WorkerStatus> statuses = membership_.Statuses(now);
  for (size_t replica = 0; replica < groups_.size(); ++replica) {
    if (!groups_[replica]->is_ready()) continue;
    std::vector<v1::WorkerStatus*> ready;
    for (v1::WorkerStatus& status : statuses) {
      if (status.state() == StateName(Member::State::kReady) && status.replica() == replica) {
        ready.push_back(&status);
      }
    }
    groups_[replica]->AddPages(absl::MakeSpan(ready));
  }
  return statuses;
}

void ReplicaSet::OnRegister(uint64_t id, const v1::Register& registration, absl::Time now) {
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
  choose_not_before_ = now + options_.attach_patience;
  for (const auto& group : groups_) group->LetLeaversGo(now);
  TryForm(now);
}

void ReplicaSet::OnLeaving(uint64_t id, absl::Time now) {
  Member* member = membership_.Find(id);
  member->is_leaving = true;
  LOG(INFO) << member->Name() << ": leaves";
  WorkerGroup* group = GroupOf(id);
  if (group == nullptr) {
    member->LetGo();
  } else if (group->LetLeaversGo(now)) {
    TryForm(now);
  }
}

void ReplicaSet::OnGroupAborted(uint64_t id, const v1::GroupAborted& aborted, absl::Time now) {
  Member* member = membership_.Find(id);
  if (member->state == Member::State::kDraining) return;
  if (member->state != Member::State::kAborting) {
    Drop(id, absl::InvalidArgumentError("group_aborted: no group was to be aborted"), now);
    return;
  }
  member->registration.set_comm_address(aborted.comm_address());
  member->state = Member::State::kAttached;
  choose_not_before_ = absl::InfinitePast();
  TryForm(now);
}

void ReplicaSet::Drop(uint64_t id, const absl::Status& status, absl::Time now) {
  Member* member = membership_.Find(id);
  const std::string name = member->Name();
  WorkerGroup* group = GroupOf(id);
  LOG(WARNING) << name << ": dropped: " << status.ToString();
  member->link->Close(status);
  membership_.Remove(id, now);
  if (group != nullptr) group->Break(absl::StrCat(name, ": ", status.ToString()), now);
  TryForm(now);
}

void ReplicaSet::TryForm(absl::Time now) {
  for (WorkerGroup* group : Unformed()) {
    if (now < group->form_not_before()) continue;
    const std::vector<uint64_t> workers = WorkersForShape();
    if (workers.empty()) break;
    Form(*group, workers);
  }
  if (ChooseTime() <= now) ChooseShapeAndForm(now);
}

void ReplicaSet::Form(WorkerGroup& group, const std::vector<uint64_t>& workers) {
  std::vector<SeatCandidate> candidates;
  for (uint64_t id : workers) {
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
  group.Form(++last_epoch_, *shape_, SeatWorkers(*shape_, candidates));
}

std::vector<WorkerGroup*> ReplicaSet::Unformed() const {
  std::vector<WorkerGroup*> unformed;
  if (!shape_.has_value()) return unformed;
  for (int replica = 0; replica < shape_->num_replicas; ++replica) {
    if (!groups_[replica]->is_formed()) unformed.push_back(groups_[replica].get());
  }
  if (unformed.size() > 1) {
    std::stable_partition(unformed.begin(), unformed.end(),
                          [](const WorkerGroup* group) { return group->has_requests(); });
  }
  return unformed;
}

std::vector<uint64_t> ReplicaSet::WorkersForShape() const {
  std::vector<uint64_t> spares = membership_.Spares();
  if (!shape_.has_value()) return {};
  const size_t num_workers = shape_->num_workers();
  if (spares.size() < num_workers) return {};
  // Ranks talk most: of one host, where one has enough.
  if (shape_->num_ranks > 1 && shape_->num_replicas > 1) {
    std::map<std::string, std::vector<uint64_t>> hosts;
    for (uint64_t id : spares) {
      std::vector<uint64_t>& of_host = hosts[membership_.members().at(id).registration.host()];
      of_host.push_back(id);
      if (of_host.size() == num_workers) return of_host;
    }
  }
  spares.resize(num_workers);
  return spares;
}

absl::Time ReplicaSet::ChooseTime() const {
  if (options_.shape.has_value() || membership_.Spares().empty()) return absl::InfiniteFuture();
  absl::Time time = choose_not_before_;
  for (const auto& group : groups_) {
    if (group->is_formed()) return absl::InfiniteFuture();
    time = std::max({time, group->lost_at() + options_.shape_patience, group->form_not_before()});
  }
  return time;
}

void ReplicaSet::ChooseShapeAndForm(absl::Time now) {
  std::vector<AvailableWorker> available;
  for (uint64_t id : membership_.Spares()) {
    const v1::Register& registration = membership_.Find(id)->registration;
    available.push_back({.id = id,
                         .host = registration.host(),
                         .memory_bytes = registration.memory_bytes(),
                         .shares_memory = registration.shares_memory()});
  }
  const int max_replicas = static_cast<int>(groups_.size());
  absl::StatusOr<ShapeChoice> choice =
      ChooseShape(available, options_.model, options_.group.model_bytes, max_replicas);
  if (!choice.ok()) {
    LOG(WARNING) << "no group: " << choice.status().message();
    choose_not_before_ = absl::InfiniteFuture();  // until another worker attaches
    return;
  }
  LOG(INFO) << "shape: " << ParallelShapeText(choice->shape) << " of " << available.size()
            << " workers";
  const int num_groups = choice->shape.num_replicas;
  // Requests may wait for replicas that there are no workers for now.
  if (shape_.has_value()) {
    choice->shape.num_replicas = std::max(num_groups, shape_->num_replicas);
  }
  shape_ = choice->shape;
  const std::vector<WorkerGroup*> groups = Unformed();
  auto begin = choice->workers.begin();
  for (int i = 0; i < num_groups; ++i, begin += shape_->num_workers()) {
    Form(*groups[i], std::vector<uint64_t>(begin, begin + shape_->num_workers()));
  }
}

void ReplicaSet::TellReady() {
  const bool ready = std::any_of(groups_.begin(), groups_.end(),
                                 [](const auto& group) { return group->is_ready(); });
  if (std::exchange(told_ready_, ready) != ready) options_.on_ready_changed(ready);
}

}  // namespace kvec::coordinator::cluster
