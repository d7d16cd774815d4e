#include "coordinator/scheduler/step_composer.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace kvec::coordinator::scheduler {
namespace {

// Of the pool, not given to a new sequence while others run: they will soon want another page, and
// preempting the newcomer for it would waste its prefill.
constexpr double kKeepFreeShare = 0.01;

// What the request's eviction will leave; nothing when there is none.
std::optional<PageLedger::EvictionBound> EvictionBound(const RequestState& request) {
  const std::vector<uint32_t>& budgets = request.schedule.budgets_from_prompt_end();
  if (budgets.empty()) return std::nullopt;
  return PageLedger::EvictionBound{
      .max_selected = std::accumulate(budgets.begin(), budgets.end(), uint64_t{0}),
      .window = request.request.cache.observation_window()};
}

}  // namespace

StepComposer::StepComposer(const SchedulerOptions& options, uint32_t num_stages,
                           RequestTable& requests, SessionTable& sessions, PageLedger& ledger,
                           Totals& totals)
    : options_(options),
      requests_(requests),
      sessions_(sessions),
      ledger_(ledger),
      totals_(totals),
      micro_batches_(num_stages) {}

bool StepComposer::Composed::is_empty() const {
  return step.work_size() == 0 && step.freed_sequence_ids_size() == 0 && step.forks_size() == 0 &&
         step.freed_block_ids_size() == 0 && step.readings_size() == 0 &&
         step.evictions_size() == 0;
}

StepComposer::Composed StepComposer::Compose(size_t num_in_flight, absl::Time now) {
  composed_ = Composed();
  now_ = now;
  rows_left_ = options_.step_tokens;
  num_prompt_rows_ = 0;
  AddFrees();
  AddDecodes();
  AddForks();
  AddDueEvictions();
  AddChunks();
  // Only now: a sequence has one kind of work in a Step.
  for (Sequence* sequence : evicted_) sequence->set_eviction_due(false);
  if (composed_.is_empty() && num_in_flight == 0) BreakDeadlock();
  if (composed_.is_empty()) AddFrees();  // of a request that has just failed for want of pages
  const PageLedger::Reclaimed reclaimed = ledger_.TakeReclaimed();
  composed_.step.mutable_freed_block_ids()->Add(reclaimed.block_ids.begin(),
                                                reclaimed.block_ids.end());
  composed_.step.mutable_freed_sequence_ids()->Add(reclaimed.sequence_ids.begin(),
                                                   reclaimed.sequence_ids.end());
  return std::move(composed_);
}

void StepComposer::AddFrees() {
  for (uint64_t sequence_id : sessions_.TakeEnded()) {
    if (!ledger_.IsIdle(sequence_id)) continue;  // reclaimed, or lost with an earlier group
    composed_.step.add_freed_sequence_ids(sequence_id);
    ledger_.Release(sequence_id);
  }
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
  v1::SequenceWork& work = *composed_.step.add_work();
  WorkPlan plan = sequence.QueueDecode(work);
  OrderEviction(sequence, work, plan);
  Record(sequence, plan);
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
  // How much is there to share?
  if (ledger_.AwaitsEviction(parent.sequence_id) ||
      parent.request->choices.front().eviction_due()) {
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
  uint32_t rows = MaxPromptRows();
  auto resident = unfinished.begin();
  bool can_start = !holds_starts_;
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
  if (request.num_resident == 0 && request.is_suspect() && requests_.HasResidentSuspect()) {
    return Admission::kMustWait;
  }
  PageLedger::Reservation reservation{.num_rows = sequence.num_reserved_rows()};
  reservation.prefill = request.prefill_bound();
  if (sequence.choice() == 0) reservation.num_forks = request.num_joined();
  if (requests_.num_slots() + 1 + reservation.num_forks > options_.max_running_sequences) {
    return Admission::kMustWait;
  }
  if (const std::optional<Admission> resumed = Resume(sequence)) return *resumed;
  v1::SequenceStart start;
  if (!Reserve(sequence, reservation, start)) {
    // It has grown beyond the pool, token by token: prefilled in chunks it needs more.
    const absl::Status fits = ledger_.CheckFits(reservation);
    if (fits.ok()) return Admission::kMustWait;
    requests_.Finish(request, fits);
    return Admission::kFailed;
  }
  const uint64_t sequence_id = ++totals_.last_sequence_id;
  FillStart(sequence, sequence_id, start);
  const auto num_cached_rows = static_cast<uint32_t>(start.cached_token_ids_size());
  *composed_.step.add_starts() = std::move(start);
  requests_.Start(sequence, sequence_id, num_cached_rows);
  request.metrics.OnScheduled(now_);
  if (options_.prefix_caching && sequence.choice() == 0 && !sequence.is_replay()) {
    request.metrics.OnCached(num_cached_rows);
    totals_.prefix_cache_queries += request.prompt_tokens();
    totals_.prefix_cache_hits += num_cached_rows;
  }
  return Admission::kStarted;
}

std::optional<StepComposer::Admission> StepComposer::Resume(Sequence& sequence) {
  RequestState& request = sequence.request();
  if (request.session == nullptr || !ledger_.IsIdle(request.session->sequence_id)) {
    return std::nullopt;
  }
  const uint64_t sequence_id = request.session->sequence_id;
  if (!ledger_.Resume(sequence_id, sequence.num_known_rows())) {
    if (!requests_.residents().empty()) return Admission::kMustWait;
    FailForPages(sequence);
    return Admission::kFailed;
  }
  request.session->sequence_id = 0;
  v1::SequenceStart& start = *composed_.step.add_starts();
  FillStart(sequence, sequence_id, start);
  start.set_continues(true);
  const auto cached = absl::MakeConstSpan(request.request.prompt).first(request.session_tokens - 1);
  start.mutable_cached_token_ids()->Assign(cached.begin(), cached.end());
  start.mutable_cache()->set_policy("full");  // its eviction has been
  requests_.Start(sequence, sequence_id, request.session_tokens - 1);
  request.metrics.OnScheduled(now_);
  return Admission::kStarted;
}

bool StepComposer::Reserve(const Sequence& sequence, PageLedger::Reservation reservation,
                           v1::SequenceStart& start) {
  const double keep_free_share = requests_.residents().empty() ? 0 : kKeepFreeShare;
  const uint64_t sequence_id = totals_.last_sequence_id + 1;
  const Request& request = sequence.request().request;
  const auto cacheable = absl::MakeConstSpan(request.prompt).first(sequence.max_cached_rows());
  const std::vector<uint64_t> block_ids = ledger_.prefixes().Find(cacheable);
  reservation.block_ids = block_ids;
  reservation.eviction = EvictionBound(sequence.request());
  if (!ledger_.Reserve(sequence_id, reservation, keep_free_share)) {
    // Without shared pages it needs no room for copies.
    if (block_ids.empty()) return false;
    reservation.block_ids = {};
    return ledger_.Reserve(sequence_id, reservation, keep_free_share);
  }
  start.mutable_block_ids()->Assign(block_ids.begin(), block_ids.end());
  const auto cached = cacheable.first(block_ids.size() * PrefixIndex::kBlockTokens);
  start.mutable_cached_token_ids()->Assign(cached.begin(), cached.end());
  return true;
}

uint32_t StepComposer::AddChunk(Sequence& sequence, uint32_t max_rows) {
  if (sequence.eviction_due()) return 0;
  const uint32_t num_rows = sequence.NextChunkRows(max_rows);
  if (!ledger_.Grow(sequence.sequence_id(), num_rows)) return 0;
  v1::SequenceWork& work = *composed_.step.add_work();
  WorkPlan plan = sequence.QueueChunk(num_rows, work);
  if (work.is_prompt() && !sequence.is_replay()) totals_.prompt_tokens += num_rows;
  if (work.is_prompt()) KeepPrompt(sequence, plan.rows_after);
  OrderEviction(sequence, work, plan);
  if (plan.rows_after == sequence.request().prompt_tokens()) SampleForks(sequence, work, plan);
  if (sequence.state() == Sequence::State::kDecode) AddToMicroBatch(sequence);
  Record(sequence, plan);
  rows_left_ -= num_rows;
  return num_rows;
}

void StepComposer::KeepPrompt(const Sequence& sequence, uint32_t num_rows) {
  const RequestState& request = sequence.request();
  if (!options_.prefix_caching || request.schedule.has_prefill()) return;
  // Before its end nobody knows whether there will be room for the copies that an eviction makes of
  // what is kept.
  if (request.schedule.evicts_at_prompt_end() && num_rows < request.first_prompt_tokens()) return;
  if (num_rows > request.first_prompt_tokens()) return;
  const PageLedger::KeptBlocks kept = ledger_.KeepBlocks(
      sequence.sequence_id(), absl::MakeConstSpan(request.request.prompt).first(num_rows));
  if (kept.block_ids.empty()) return;
  v1::BlockKeep& keep = *composed_.step.add_keeps();
  keep.set_sequence_id(sequence.sequence_id());
  keep.set_first_block(kept.first_block);
  keep.mutable_block_ids()->Assign(kept.block_ids.begin(), kept.block_ids.end());
}

void StepComposer::OrderEviction(Sequence& sequence, v1::SequenceWork& work, WorkPlan& plan) {
  const RequestState& request = sequence.request();
  if (request.schedule.BudgetsAt(plan.rows_after) == nullptr) return;
  const EvictionSchedule& schedule = request.schedule;
  const bool is_prompt_end = plan.rows_after == request.first_prompt_tokens();
  if (is_prompt_end && (schedule.awaits_curves() || schedule.reads_twice())) {
    sequence.set_eviction_due(true);
    if (!schedule.awaits_curves()) return;
    work.mutable_curve_budgets()->Assign(schedule.curve_budgets().begin(),
                                         schedule.curve_budgets().end());
    plan.num_curves = schedule.num_curves();
    return;
  }
  AddEviction(request, sequence.sequence_id(), plan);
}

void StepComposer::AddDueEvictions() {
  evicted_.clear();
  for (Sequence* sequence : requests_.residents()) {
    AddDueEviction(*sequence, sequence->sequence_id());
  }
  // Finished by its first token, a parent stays on the workers until it is forked.
  for (const ForkParent& parent : fork_parents_) {
    Sequence& choice = parent.request->choices.front();
    if (!choice.is_resident()) AddDueEviction(choice, parent.sequence_id);
  }
}

void StepComposer::AddDueEviction(Sequence& sequence, uint64_t sequence_id) {
  if (!sequence.eviction_due() || sequence.request().schedule.awaits_curves()) return;
  if (sequence.num_to_read() > 0) {
    const uint32_t max_rows = MaxPromptRows();
    if (max_rows == 0) return;
    v1::SequenceReading& reading = *composed_.step.add_readings();
    sequence.QueueReading(max_rows, reading);
    reading.set_sequence_id(sequence_id);
    rows_left_ -= reading.num_tokens();
    num_prompt_rows_ += reading.num_tokens();
    if (sequence.num_to_read() > 0) return;
  }
  evicted_.push_back(&sequence);
  WorkPlan plan{.rows_after = sequence.num_rows()};
  AddEviction(sequence.request(), sequence_id, plan);
  composed_.work.push_back(
      {sequence.request().shared_from_this(), sequence.choice(), sequence_id, plan});
}

uint32_t StepComposer::MaxPromptRows() const {
  if (!is_decoding_) return rows_left_;
  return std::min(rows_left_, options_.mixed_prompt_tokens - num_prompt_rows_);
}

void StepComposer::AddEviction(const RequestState& request, uint64_t sequence_id, WorkPlan& plan) {
  const auto& layer_budgets = *request.schedule.BudgetsAt(plan.rows_after);
  v1::EvictionOrder& eviction = *composed_.step.add_evictions();
  eviction.set_sequence_id(sequence_id);
  eviction.set_position(plan.rows_after);
  eviction.set_report_kept_tokens(request.request.report_kept_tokens);
  eviction.mutable_layer_budgets()->Add(layer_budgets.begin(), layer_budgets.end());
  ledger_.Evict(sequence_id);
  plan.is_evicted = true;
}

void StepComposer::SampleForks(Sequence& sequence, v1::SequenceWork& work, WorkPlan& plan) {
  RequestState& request = sequence.request();
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
  start.set_request_id(request.id);
  start.set_trace_id(request.trace_id);
  start.set_first_prompt_tokens(sequence.request().first_prompt_tokens());
  *start.mutable_sampling() = request.sampling;
  start.mutable_sampling()->set_choice(sequence.choice());
  start.mutable_sampling()->mutable_stop_token_ids()->Assign(request.stop_token_ids.begin(),
                                                             request.stop_token_ids.end());
  *start.mutable_cache() = request.cache;
  // Where the budget holds everything, no worker need keep what scores it.
  if (sequence.request().schedule.is_empty()) start.mutable_cache()->set_policy("full");
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
