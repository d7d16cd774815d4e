#include "coordinator/cluster/membership.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::cluster {
namespace {

// Enough to see what happened lately, small enough for a status message.
constexpr size_t kMaxLost = 16;

bool HasProgress(const v1::Heartbeat& before, const v1::Heartbeat& after) {
  return after.last_step_id() != before.last_step_id() ||
         after.steps_begun() != before.steps_begun() || after.layers_done() != before.layers_done();
}

v1::WorkerStatus StatusOf(const Member& member) {
  v1::WorkerStatus status;
  status.set_worker_id(member.registration.worker_id());
  status.set_host(member.registration.host());
  status.set_device(member.registration.device());
  status.set_state(
      std::string(StateName(member.is_leaving ? Member::State::kDraining : member.state)));
  status.set_stage(member.placement.stage());
  status.set_rank(member.placement.rank());
  status.set_replica(member.replica);
  status.set_first_layer(member.placement.first_layer());
  status.set_num_layers(member.placement.num_layers());
  status.set_total_pages(member.ready.total_pages());
  status.set_page_bytes(member.ready.page_bytes());
  status.set_weight_bytes(member.ready.weight_bytes());
  status.set_resident_bytes(member.heartbeat.resident_bytes());
  status.set_peak_resident_bytes(member.heartbeat.peak_resident_bytes());
  status.set_last_step_ms(member.last_step_ms);
  return status;
}

}  // namespace

absl::string_view StateName(Member::State state) {
  switch (state) {
    case Member::State::kConnected:
      return "connected";
    case Member::State::kAttached:
      return "attached";
    case Member::State::kLoading:
      return "loading";
    case Member::State::kReady:
      return "ready";
    case Member::State::kAborting:
      return "aborting";
    case Member::State::kDraining:
      return "draining";
  }
  return "unknown";
}

void Member::LetGo() {
  state = State::kDraining;
  link->Close(absl::OkStatus());
}

std::string Member::Name() const {
  return registration.worker_id().empty() ? "a worker"
                                          : absl::StrCat("worker ", registration.worker_id());
}

void Membership::Add(uint64_t id, std::shared_ptr<WorkerLink> link, absl::Time now) {
  Member& member = members_[id];
  member.link = std::move(link);
  member.heard_at = now;
  member.alive_at = now;
}

absl::Status Membership::Register(uint64_t id, const v1::Register& registration, absl::Time now) {
  const std::string& worker_id = registration.worker_id();
  if (worker_id.empty()) return absl::InvalidArgumentError("register.worker_id: empty");
  if (registration.version() != options_.version) {
    return absl::FailedPreconditionError(absl::StrCat("register.version: worker ", worker_id,
                                                      " is version ", registration.version(),
                                                      ", the coordinator is ", options_.version));
  }
  if (registration.model_fingerprint() != options_.model_fingerprint) {
    return absl::FailedPreconditionError(absl::StrCat(
        "register.model_fingerprint: worker ", worker_id, " has model ",
        registration.model_fingerprint(), ", the coordinator has ", options_.model_fingerprint));
  }
  for (const auto& [other_id, other] : members_) {
    if (other_id != id && other.registration.worker_id() == worker_id) {
      return absl::AlreadyExistsError(absl::StrCat("register.worker_id: ", worker_id,
                                                   " is attached already, from host ",
                                                   other.registration.host()));
    }
  }
  Member& member = members_.at(id);
  member.registration = registration;
  member.state = Member::State::kAttached;
  member.alive_at = now;
  lost_.erase(
      std::remove_if(lost_.begin(), lost_.end(),
                     [&](const Lost& lost) { return lost.status.worker_id() == worker_id; }),
      lost_.end());
  return absl::OkStatus();
}

Member* Membership::Find(uint64_t id) {
  const auto it = members_.find(id);
  return it == members_.end() ? nullptr : &it->second;
}

void Membership::Hear(Member& member, const v1::WorkerMessage& message, absl::Time now) {
  member.heard_at = now;
  if (!message.has_heartbeat()) {
    member.alive_at = now;
    return;
  }
  if (!message.heartbeat().in_step() || HasProgress(member.heartbeat, message.heartbeat())) {
    member.alive_at = now;
  }
  member.heartbeat = message.heartbeat();
}

void Membership::Remove(uint64_t id, absl::Time now) {
  const auto it = members_.find(id);
  if (it == members_.end()) return;
  const Member::State state = it->second.state;
  if (state != Member::State::kConnected && state != Member::State::kDraining) {
    Lost& lost = lost_.emplace_back();
    lost.status = StatusOf(it->second);
    lost.status.set_state("lost");
    lost.status.set_total_pages(0);  // gone with it
    lost.heard_at = it->second.heard_at;
    if (lost_.size() > kMaxLost) lost_.pop_front();
  }
  members_.erase(it);
}

std::vector<uint64_t> Membership::Spares() const {
  std::vector<uint64_t> ids;
  for (const auto& [id, member] : members_) {
    if (member.state == Member::State::kAttached && !member.is_leaving) ids.push_back(id);
  }
  return ids;
}

std::vector<uint64_t> Membership::Silent(absl::Time now) const {
  std::vector<uint64_t> ids;
  for (const auto& [id, member] : members_) {
    if (now - member.alive_at >= options_.heartbeat_timeout) ids.push_back(id);
  }
  return ids;
}

absl::Time Membership::NextTimeout() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [id, member] : members_) {
    next = std::min(next, member.alive_at + options_.heartbeat_timeout);
  }
  return next;
}

std::vector<v1::WorkerStatus> Membership::Statuses(absl::Time now) const {
  std::vector<v1::WorkerStatus> statuses;
  for (const auto& [id, member] : members_) {
    if (member.state == Member::State::kConnected) continue;
    v1::WorkerStatus& status = statuses.emplace_back(StatusOf(member));
    status.set_seconds_since_heartbeat(absl::ToDoubleSeconds(now - member.heard_at));
  }
  for (const Lost& lost : lost_) {
    v1::WorkerStatus& status = statuses.emplace_back(lost.status);
    status.set_seconds_since_heartbeat(absl::ToDoubleSeconds(now - lost.heard_at));
  }
  return statuses;
}

}  // namespace kvec::coordinator::cluster
