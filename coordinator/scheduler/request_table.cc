#include "coordinator/scheduler/request_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::coordinator::scheduler {

absl::Status RequestTable::Add(const std::shared_ptr<RequestState>& request) {
  const std::string& id = request->request.id;
  if (requests_.contains(id)) {
    return absl::AlreadyExistsError(absl::StrCat("request_id: ", id, " is in use"));
  }
  KVEC_RETURN_IF_ERROR(queue_.CheckRoom(request->prompt_tokens(), request->metrics.arrival()));
  queue_.Add(&request->choices.front());
  if (request->request.deadline != absl::InfiniteFuture()) {
    deadlines_.emplace(request->request.deadline, request.get());
  }
  requests_.emplace(id, request);
  return absl::OkStatus();
}

std::shared_ptr<RequestState> RequestTable::Find(absl::string_view request_id) const {
  const auto found = requests_.find(request_id);
  return found == requests_.end() ? nullptr : found->second;
}

uint32_t RequestTable::num_slots() const {
  return static_cast<uint32_t>(residents_.size()) + num_joined_;
}

void RequestTable::AddResident(Sequence& sequence) {
  residents_.insert(&sequence);
  if (++sequence.request().num_resident == 1) ++num_running_;
}

void RequestTable::RemoveResident(Sequence& sequence) {
  residents_.erase(&sequence);
  if (--sequence.request().num_resident == 0) --num_running_;
}

void RequestTable::Start(Sequence& sequence, uint64_t sequence_id, uint32_t num_cached_rows) {
  queue_.Remove(&sequence);
  RequestState& request = sequence.request();
  request.was_started = true;
  sequence.Start(sequence_id, num_cached_rows);
  AddResident(sequence);
  if (sequence.choice() != 0) return;
  for (const Sequence& choice : request.choices) {
    if (choice.state() == Sequence::State::kJoined) ++num_joined_;
  }
}

void RequestTable::StartForked(Sequence& sequence, uint64_t sequence_id) {
  --num_joined_;
  sequence.StartForked(sequence_id);
  AddResident(sequence);
}

void RequestTable::Requeue(Sequence& sequence) {
  sequence.Suspend();
  queue_.Add(&sequence);
}

void RequestTable::Preempt(Sequence& sequence) {
  RequestState& request = sequence.request();
  ++num_preemptions_;
  request.metrics.OnPreempted();
  RemoveResident(sequence);
  Requeue(sequence);
  if (sequence.choice() != 0) return;
  for (Sequence& choice : request.choices) {
    if (choice.state() == Sequence::State::kJoined) --num_joined_;
    if (choice.state() != Sequence::State::kForkDue) continue;
    --num_joined_;
    Requeue(choice);
  }
}

bool RequestTable::HasResidentSuspect() const {
  return std::any_of(residents_.begin(), residents_.end(),
                     [](const Sequence* sequence) { return sequence->request().is_suspect(); });
}

void RequestTable::SuspendAll() {
  retired_.clear();
  for (auto& [id, request] : requests_) {
    if (request->num_resident > 0) request->losses.OnLost(request->num_delivered());
    for (Sequence& choice : request->choices) {
      choice.ForgetUnanswered();
      if (choice.is_resident()) {
        RemoveResident(choice);
        Requeue(choice);
      } else if (choice.state() == Sequence::State::kForkDue) {
        Requeue(choice);
      }
    }
  }
  num_joined_ = 0;
  for (const std::shared_ptr<RequestState>& request : All()) {
    if (request->losses.num_losses() < most_losses_) continue;
    Finish(*request, absl::InternalError(absl::StrCat(
                         "request ", request->request.id, ": its workers were lost ",
                         request->losses.num_losses(), " times before it had another token")));
  }
}

void RequestTable::Retire(Sequence& sequence) {
  RequestState& request = sequence.request();
  switch (sequence.state()) {
    case Sequence::State::kWaiting:
      queue_.Remove(&sequence);
      break;
    case Sequence::State::kJoined:
      if (request.choices.front().is_resident()) --num_joined_;
      break;
    case Sequence::State::kForkDue:
      --num_joined_;
      break;
    case Sequence::State::kChunks:
    case Sequence::State::kDecode:
      if (request.session == nullptr || request.session->sequence_id != sequence.sequence_id()) {
        retired_.push_back({sequence.sequence_id(), request.shared_from_this()});
      }
      RemoveResident(sequence);
      break;
    case Sequence::State::kFinished:
      return;
  }
  sequence.Finish();
  --request.num_unfinished;
}

void RequestTable::FinishChoice(Sequence& sequence, v1::FinishReason reason, PageLedger& ledger) {
  RequestState& request = sequence.request();
  const PageLedger::Bytes bytes = ledger.TakeBytes(sequence.sequence_id());
  request.metrics.OnChoiceFinished(bytes);
  if (request.session != nullptr) RecordTurn(sequence, ledger);
  Retire(sequence);
  request.request.sink->OnChoiceFinished(sequence.choice(), reason);
  if (request.num_unfinished == 0) Finish(request, absl::OkStatus());
}

void RequestTable::RecordTurn(Sequence& sequence, PageLedger& ledger) {
  RequestState& request = sequence.request();
  Session& session = *request.session;
  session.tokens = sequence.DeliveredText();
  session.prompts = request.prompts;
  session.cache = request.request.cache;
  session.schedule = request.schedule;
  session.eviction = request.eviction;
  if (!sequence.CanBeContinued()) return;
  session.sequence_id = sequence.sequence_id();
  ledger.SetIdle(session.sequence_id);
}

void RequestTable::Finish(RequestState& request, const absl::Status& status) {
  const std::shared_ptr<RequestState> keep_alive = request.shared_from_this();
  // Choice 0 last: whether its joined choices hold slots depends on it.
  for (auto choice = request.choices.rbegin(); choice != request.choices.rend(); ++choice) {
    Retire(*choice);
  }
  deadlines_.erase({request.request.deadline, &request});
  requests_.erase(request.request.id);
  if (request.session != nullptr) sessions_.Leave(*request.session);
  v1::Usage usage;
  request.metrics.Fill(request.prompt_tokens() - request.session_tokens, usage);
  usage.set_session_tokens(request.session_tokens);
  request.eviction.Fill(usage);
  request.request.sink->OnDone(status, usage);
}

std::vector<RequestTable::Retired> RequestTable::TakeRetired() {
  const auto keep = std::partition(retired_.begin(), retired_.end(), [](const Retired& retired) {
    return !retired.request->NeedsFork();
  });
  std::vector<Retired> taken(std::make_move_iterator(retired_.begin()),
                             std::make_move_iterator(keep));
  retired_.erase(retired_.begin(), keep);
  return taken;
}

absl::Time RequestTable::NextDeadline() const {
  return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first;
}

std::vector<std::shared_ptr<RequestState>> RequestTable::Expired(absl::Time now) const {
  std::vector<std::shared_ptr<RequestState>> expired;
  for (const auto& [deadline, request] : deadlines_) {
    if (deadline > now) break;
    expired.push_back(request->shared_from_this());
  }
  return expired;
}

uint64_t RequestTable::num_tokens() const {
  uint64_t num_tokens = 0;
  for (const auto& [id, request] : requests_) {
    num_tokens += request->prompt_tokens() + request->num_delivered();
  }
  return num_tokens;
}

std::vector<std::shared_ptr<RequestState>> RequestTable::All() const {
  std::vector<std::shared_ptr<RequestState>> all;
  all.reserve(requests_.size());
  for (const auto& [id, request] : requests_) all.push_back(request);
  return all;
}

}  // namespace kvec::coordinator::scheduler
