#include "coordinator/scheduler/step_composer.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvec::coordinator::scheduler {
namespace {

// Of the pool, not given to a new sequence while others run: they will soon want another page, and
// preempting the newcomer for it would waste its prefill.
constexpr double kKeepFreeShare = 0.01;

}  // namespace

StepComposer::StepComposer(const SchedulerOptions& options, uint32_t num_stages,
                           RequestTable& requests, PageLedger& ledger, Totals& totals)
    : options_(options),
      requests_(requests),
      ledger_(ledger),
      totals_(totals),
      micro_batches_(num_stages) {}

bool StepComposer::Composed::is_empty() const {
  return step.work_size() == 0 && step.freed_sequence_ids_size() == 0 && step.forks_size() == 0;
}

StepComposer::Composed StepComposer::Compose(size_t num_in_flight, absl::Time now) {
  composed_ = Composed();
  now_ = now;
  rows_left_ = options_.step_tokens;
  AddFrees();
  AddDecodes();
  AddForks();
  AddChunks();
  if (composed_.is_empty() && num_in_flight == 0) BreakDeadlock();
  if (composed_.is_empty()) AddFrees();  // of a request that has just failed for want of pages
  return std::move(composed_);
}

void StepComposer::AddFrees() {
  if (!requests_.has_retired()) return;
  for (const RequestTable::Retired& retired : requests_.TakeRetired()) {
    composed_.step.add_freed_sequence_ids(retired.sequence_id);
    ledger_.Release(retired.sequence_id);
  }
}

void StepComposer::AddDecodes() {
  is_decoding_ = false;
  for (auto& micro_batch : micro_batches_) micro_batch.clear();
  for (Sequence* sequence : requests_.residents()) {
    if (!sequence->WantsDecode()) continue;
    is_decoding_ = true;
    micro_batches_[sequence->micro_batch()].push_back(sequence);
  }
  if (!is_decoding_) return;
  const uint32_t num_micro_batches = static_cast<uint32_t>(micro_batches_.size());
  do {
    last_micro_batch_ = (last_micro_batch_ + 1) % num_micro_batches;
  } while (micro_batches_[last_micro_batch_].empty());
  for (Sequence* sequence : micro_batches_[last_micro_batch_]) {
    // A sequence before it may have preempted this one; forks come before the parent's next row.
    if (!sequence->WantsDecode()) continue;
    if (sequence->choice() == 0 && sequence->request().NeedsFork()) continue;
    if (MakeRoom(*sequence)) AddDecode(*sequence);
  }
}

bool StepComposer::MakeRoom(Sequence& sequence) {
  while (!ledger_.Grow(sequence.sequence_id(), 1)) {
    // Foreseen from the complete prompt, it looks larger than it is.
    if (ledger_.AwaitsEviction(sequence.sequence_id())) return false;
    Sequence* lowest = *requests_.residents().rbegin();
    // Replayed, a fork no longer shares pages with others, which may have gone since.
    if (requests_.residents().size() == 1 && !ledger_.IsForked(sequence.sequence_id())) {
      FailForPages(sequence);
      return false;
    }
    Preempt(*lowest);
    if (lowest == &sequence) return false;
  }
  return true;
}

void StepComposer::Preempt(Sequence& sequence) {
  composed_.step.add_freed_sequence_ids(sequence.sequence_id());
  ledger_.Release(sequence.sequence_id());
  requests_.Preempt(sequence);
}

void StepComposer::AddDecode(Sequence& sequence) {
  Record(sequence, sequence.QueueDecode(*composed_.step.add_work()));
  --rows_left_;
  is_decoding_ = true;
}

void StepComposer::AddForks() {
  const std::vector<ForkParent> parents = std::exchange(fork_parents_, {});
  for (const ForkParent& parent : parents) ForkChoices(parent);
}

void StepComposer::ForkChoices(const ForkParent& parent) {
  if (!parent.request->NeedsFork()) {  // ended by their first tokens, or preempted
    ledger_.EndForks(parent.sequence_id);
    return;
  }
  if (ledger_.AwaitsEviction(parent.sequence_id)) {  // how much there is to share
    fork_parents_.push_back(parent);
    return;
  }
  for (Sequence& choice : parent.request->choices) {
    if (!choice.NeedsFork()) continue;
    const uint64_t sequence_id = ++totals_.last_sequence_id;
    v1::SequenceFork& fork = *composed_.step.add_forks();
    fork.set_parent_sequence_id(parent.sequence_id);
    FillStart(choice, sequence_id, *fork.mutable_child());
    ledger_.Fork(parent.sequence_id, sequence_id);
    requests_.StartForked(choice, sequence_id);
    AddToMicroBatch(choice);
  }
  ledger_.EndForks(parent.sequence_id);
  // Their first tokens, as far as there is room: this Step is too late to preempt others.
  for (Sequence& choice : parent.request->choices) {
    if (rows_left_ > 0 && choice.WantsDecode() && ledger_.Grow(choice.sequence_id(), 1)) {
      AddDecode(choice);
    }
  }
}

void StepComposer::AddChunks() {
  std::vector<Sequence*> unfinished;
  for (Sequence* sequence : requests_.residents()) {
    if (sequence->state() == Sequence::State::kChunks) unfinished.push_back(sequence);
  }
  uint32_t rows = is_decoding_ ? std::min(rows_left_, options_.mixed_prompt_tokens) : rows_left_;
  auto resident = unfinished.begin();
  bool can_start = true;
  while (rows > 0) {
    Sequence* waiting = can_start ? requests_.queue().head() : nullptr;
    const bool has_resident = resident != unfinished.end();
    if (waiting != nullptr && (!has_resident || RankLess()(waiting, *resident))) {
      const Admission admission = Start(*waiting);
      if (admission == Admission::kStarted) rows -= AddChunk(*waiting, rows);
      can_start = admission != Admission::kMustWait;
    } else if (has_resident) {
      rows -= AddChunk(**resident++, rows);
    } else {
      return;
    }
  }
}

StepComposer::Admission StepComposer::Start(Sequence& sequence) {
  // A replay feeds what was generated before: it must be known.
  if (sequence.num_unanswered() > 0) return Admission::kMustWait;
  RequestState& request = sequence.request();
  PageLedger::Reservation reservation{.num_rows = sequence.num_reserved_rows()};
  if (sequence.choice() == 0) reservation.num_forks = request.num_joined();
  if (requests_.num_slots() + 1 + reservation.num_forks > options_.max_running_sequences) {
    return Admission::kMustWait;
  }
  const double keep_free_share = requests_.residents().empty() ? 0 : kKeepFreeShare;
  const uint64_t sequence_id = totals_.last_sequence_id + 1;
  if (!ledger_.Reserve(sequence_id, reservation, keep_free_share)) {
    // It has grown beyond the pool, token by token: prefilled in chunks it needs more.
    const absl::Status fits = ledger_.CheckFits(reservation);
    if (fits.ok()) return Admission::kMustWait;
    requests_.Finish(request, fits);
    return Admission::kFailed;
  }
  totals_.last_sequence_id = sequence_id;
  FillStart(sequence, sequence_id, *composed_.step.add_starts());
  requests_.Start(sequence, sequence_id);
  request.metrics.OnScheduled(now_);
  return Admission::kStarted;
}

uint32_t StepComposer::AddChunk(Sequence& sequence, uint32_t max_rows) {
  const uint32_t num_rows = sequence.NextChunkRows(max_rows);
  if (!ledger_.Grow(sequence.sequence_id(), num_rows)) return 0;
  v1::SequenceWork& work = *composed_.step.add_work();
  WorkPlan plan = sequence.QueueChunk(num_rows, work);
  if (work.is_prompt() && !sequence.is_replay()) totals_.prompt_tokens += num_rows;
  if (plan.rows_after == sequence.request().prompt_tokens()) EndPrompt(sequence, work, plan);
  if (sequence.state() == Sequence::State::kDecode) AddToMicroBatch(sequence);
  Record(sequence, plan);
  rows_left_ -= num_rows;
  return num_rows;
}

void StepComposer::EndPrompt(Sequence& sequence, v1::SequenceWork& work, WorkPlan& plan) {
  RequestState& request = sequence.request();
  if (!request.layer_budgets.empty()) {
    v1::EvictionOrder& eviction = *composed_.step.add_evictions();
    eviction.set_sequence_id(sequence.sequence_id());
    eviction.mutable_layer_budgets()->Add(request.layer_budgets.begin(),
                                          request.layer_budgets.end());
    ledger_.Evict(sequence.sequence_id());
    plan.is_evicted = true;
  }
  if (sequence.choice() != 0 || request.num_joined() == 0) return;
  for (Sequence& choice : request.choices) {
    if (choice.state() == Sequence::State::kJoined) choice.JoinSample();
  }
  plan.num_samples = request.request.num_choices;
  work.set_num_choices(plan.num_samples);
  fork_parents_.push_back({request.shared_from_this(), sequence.sequence_id()});
}

void StepComposer::AddToMicroBatch(Sequence& sequence) {
  const auto smallest = std::min_element(
      micro_batches_.begin(), micro_batches_.end(),
      [](const auto& left, const auto& right) { return left.size() < right.size(); });
  sequence.set_micro_batch(static_cast<uint32_t>(smallest - micro_batches_.begin()));
  smallest->push_back(&sequence);
}

void StepComposer::Record(Sequence& sequence, const WorkPlan& plan) {
  composed_.work.push_back(
      {sequence.request().shared_from_this(), sequence.choice(), sequence.sequence_id(), plan});
}

void StepComposer::FillStart(const Sequence& sequence, uint64_t sequence_id,
                             v1::SequenceStart& start) const {
  const Request& request = sequence.request().request;
  start.set_sequence_id(sequence_id);
  start.set_prompt_tokens(sequence.request().prompt_tokens());
  *start.mutable_sampling() = request.sampling;
  start.mutable_sampling()->set_choice(sequence.choice());
  start.mutable_sampling()->mutable_stop_token_ids()->Assign(request.stop_token_ids.begin(),
                                                             request.stop_token_ids.end());
  *start.mutable_cache() = request.cache;
  // Where the budget holds the whole prompt, no worker need keep what scores it.
  if (sequence.request().layer_budgets.empty()) start.mutable_cache()->set_policy("full");
}

void StepComposer::BreakDeadlock() {
  const RequestTable::Residents& residents = requests_.residents();
  if (residents.empty()) return;
  Sequence& lowest = **residents.rbegin();
  if (residents.size() > 1) {
    Preempt(lowest);
    return;
  }
  FailForPages(lowest);
}

void StepComposer::FailForPages(Sequence& sequence) {
  requests_.Finish(sequence.request(), absl::ResourceExhaustedError(absl::StrCat(
                                           "kv pages: the pool is full with ", sequence.num_rows(),
                                           " tokens of this request alone")));
}

}  // namespace kvec::coordinator::scheduler
