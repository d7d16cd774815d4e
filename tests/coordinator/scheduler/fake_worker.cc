#include "tests/coordinator/scheduler/fake_worker.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::coordinator::scheduler {
namespace {

constexpr uint32_t kTokensPerPage = 16;

absl::Status Fault(uint64_t sequence_id, absl::string_view what) {
  return absl::InternalError(absl::StrCat("sequence ", sequence_id, ": ", what));
}

}  // namespace

FakeWorker::FakeWorker(WorkerCapacity capacity, bool is_sampler)
    : capacity_(std::move(capacity)),
      is_sampler_(is_sampler),
      references_(capacity_.total_pages, 0) {
  for (uint32_t page = 0; page < capacity_.total_pages; ++page) free_.push_back(page);
}

absl::StatusOr<uint32_t> FakeWorker::AllocatePage() {
  if (free_.empty()) return absl::ResourceExhaustedError("no free page");
  const uint32_t page = free_.back();
  free_.pop_back();
  references_[page] = 1;
  return page;
}

void FakeWorker::ReleasePage(uint32_t page) {
  if (--references_[page] == 0) free_.push_back(page);
}

uint64_t FakeWorker::Sequence::num_pages() const {
  uint64_t pages = 0;
  for (const Table& table : tables) pages += table.pages.size() - table.num_released;
  return pages;
}

absl::StatusOr<v1::StepResult> FakeWorker::Execute(const v1::Step& step) {
  v1::StepResult result;
  result.set_step_id(step.step_id());
  result.set_group_epoch(step.group_epoch());
  for (uint64_t id : step.freed_sequence_ids()) {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) return Fault(id, "freed, but not known");
    Free(found->second);
    sequences_.erase(found);
  }
  for (uint64_t id : step.freed_block_ids()) KVEC_RETURN_IF_ERROR(FreeBlock(id));
  for (const v1::SequenceStart& start : step.starts()) KVEC_RETURN_IF_ERROR(Start(start));
  for (const v1::SequenceFork& fork : step.forks()) KVEC_RETURN_IF_ERROR(Fork(fork));
  std::set<uint64_t> worked;
  // All rows run together: their pages are needed at the same time.
  for (const v1::SequenceWork& work : step.work()) {
    const auto found = sequences_.find(work.sequence_id());
    if (found == sequences_.end()) return Fault(work.sequence_id(), "work, but not known");
    if (!worked.insert(work.sequence_id()).second) return Fault(work.sequence_id(), "works twice");
    KVEC_RETURN_IF_ERROR(Append(found->second, std::max(1, work.token_ids_size())));
    found->second.peak_pages = std::max(found->second.peak_pages, found->second.num_pages());
  }
  most_pages_in_step_ = capacity_.total_pages - free_.size();
  for (const v1::SequenceWork& work : step.work()) KVEC_RETURN_IF_ERROR(Work(work, result));
  for (const v1::BlockKeep& keep : step.keeps()) KVEC_RETURN_IF_ERROR(Keep(keep));
  for (const v1::SequenceReading& reading : step.readings()) {
    KVEC_RETURN_IF_ERROR(ReadAgain(reading));
  }
  for (const v1::EvictionOrder& order : step.evictions())
    KVEC_RETURN_IF_ERROR(Evict(order, result));
  for (const v1::EvictionOrder& order : step.evictions()) worked.insert(order.sequence_id());
  for (uint64_t id : worked) {
    ReleaseSlidOut(sequences_[id]);
    v1::SequencePages& pages = *result.add_changed_pages();
    pages.set_sequence_id(id);
    pages.set_pages(sequences_[id].num_pages());
    pages.set_peak_pages(sequences_[id].peak_pages);
  }
  result.set_free_pages(free_.size());
  return result;
}

absl::Status FakeWorker::Start(const v1::SequenceStart& start) {
  if (start.continues()) return Continue(start);
  const auto [entry, is_new] = sequences_.try_emplace(start.sequence_id());
  if (!is_new) return Fault(start.sequence_id(), "started twice");
  entry->second.start = start;
  entry->second.tables.resize(capacity_.sliding_windows.size() * capacity_.num_kv_heads);
  return Share(start, entry->second);
}

absl::Status FakeWorker::Continue(const v1::SequenceStart& start) {
  const auto found = sequences_.find(start.sequence_id());
  if (found == sequences_.end()) return Fault(start.sequence_id(), "continued, but not known");
  Sequence& sequence = found->second;
  if (sequence.num_tokens != static_cast<uint32_t>(start.cached_token_ids_size())) {
    return Fault(start.sequence_id(), absl::StrCat("has ", sequence.num_tokens, " tokens, not ",
                                                   start.cached_token_ids_size()));
  }
  sequence.start = start;
  sequence.sampled.clear();
  return absl::OkStatus();
}

absl::Status FakeWorker::Share(const v1::SequenceStart& start, Sequence& sequence) {
  if (start.cached_token_ids_size() !=
      start.block_ids_size() * static_cast<int>(kTokensPerPage)) {
    return Fault(start.sequence_id(), "another number of cached tokens than its blocks have");
  }
  for (uint32_t token : start.cached_token_ids()) {
    sequence.state = FakeModel::Feed(sequence.state, static_cast<int32_t>(token), true);
    sequence.states.push_back(sequence.state);
  }
  for (uint64_t block_id : start.block_ids()) {
    const auto block = kept_blocks_.find(block_id);
    if (block == kept_blocks_.end()) return Fault(start.sequence_id(), "shares an unknown block");
    sequence.num_tokens += kTokensPerPage;
    if (block->second.state != sequence.states[sequence.num_tokens - 1]) {
      return Fault(start.sequence_id(), "shares a block of other tokens");
    }
    for (size_t i = 0; i < sequence.tables.size(); ++i) {
      ++references_[block->second.pages[i]];
      sequence.tables[i].pages.push_back(block->second.pages[i]);
      sequence.tables[i].num_entries += kTokensPerPage;
    }
  }
  return absl::OkStatus();
}

absl::Status FakeWorker::Keep(const v1::BlockKeep& keep) {
  const auto found = sequences_.find(keep.sequence_id());
  if (found == sequences_.end()) return Fault(keep.sequence_id(), "kept, but not known");
  const Sequence& sequence = found->second;
  for (int i = 0; i < keep.block_ids_size(); ++i) {
    const uint32_t index = keep.first_block() + static_cast<uint32_t>(i);
    const uint32_t num_tokens = (index + 1) * kTokensPerPage;
    if (num_tokens > sequence.num_tokens) return Fault(keep.sequence_id(), "kept too early");
    Block block{{}, sequence.states[num_tokens - 1]};
    for (const Table& table : sequence.tables) {
      if (table.num_entries != sequence.num_tokens || table.num_released > index) {
        return Fault(keep.sequence_id(), "kept too late");
      }
      block.pages.push_back(table.pages[index]);
      ++references_[table.pages[index]];
    }
    if (!kept_blocks_.try_emplace(keep.block_ids(i), std::move(block)).second) {
      return Fault(keep.sequence_id(), "a block is kept twice");
    }
  }
  return absl::OkStatus();
}

absl::Status FakeWorker::FreeBlock(uint64_t block_id) {
  const auto found = kept_blocks_.find(block_id);
  if (found == kept_blocks_.end()) {
    return absl::InternalError(absl::StrCat("block ", block_id, ": freed, but not known"));
  }
  for (uint32_t page : found->second.pages) ReleasePage(page);
  kept_blocks_.erase(found);
  return absl::OkStatus();
}

absl::Status FakeWorker::Fork(const v1::SequenceFork& fork) {
  const auto parent = sequences_.find(fork.parent_sequence_id());
  if (parent == sequences_.end()) return Fault(fork.parent_sequence_id(), "forked, but not known");
  if (!parent->second.is_forkable) return Fault(fork.parent_sequence_id(), "forked too late");
  Sequence child = parent->second;
  child.start = fork.child();
  child.is_forkable = false;
  const uint32_t choice = child.start.sampling().choice();
  if (child.sampled.count(choice) == 0) return Fault(child.start.sequence_id(), "has no token");
  child.sampled = {{choice, child.sampled[choice]}};
  for (Table& table : child.tables) {
    const bool is_partial = table.num_entries % kTokensPerPage != 0;
    const size_t num_shared = table.pages.size() - (is_partial ? 1 : 0);
    for (size_t i = table.num_released; i < num_shared; ++i) ++references_[table.pages[i]];
    if (is_partial) {
      KVEC_ASSIGN_OR_RETURN(table.pages.back(), AllocatePage());
    }
  }
  if (!sequences_.try_emplace(fork.child().sequence_id(), std::move(child)).second) {
    return Fault(fork.child().sequence_id(), "started twice");
  }
  return absl::OkStatus();
}

// Holds a copy of each head's last page and room for the rows meanwhile.
absl::Status FakeWorker::ReadAgain(const v1::SequenceReading& reading) {
  const auto found = sequences_.find(reading.sequence_id());
  if (found == sequences_.end()) return Fault(reading.sequence_id(), "read, but not known");
  Sequence& sequence = found->second;
  if (reading.first_token() != sequence.num_read_again || reading.num_tokens() == 0 ||
      reading.first_token() + reading.num_tokens() > sequence.start.first_prompt_tokens()) {
    return Fault(reading.sequence_id(), "is read out of order");
  }
  sequence.num_read_again += reading.num_tokens();
  std::vector<uint32_t> pages;
  for (const Table& table : sequence.tables) {
    if (table.num_entries != sequence.start.first_prompt_tokens()) {
      return Fault(reading.sequence_id(), "is read when it is not complete");
    }
    const uint32_t num_full = table.num_entries / kTokensPerPage;
    const uint32_t num_entries = table.num_entries + reading.num_tokens();
    const uint32_t num_pages = (num_entries + kTokensPerPage - 1) / kTokensPerPage;
    for (uint32_t page = num_full; page < num_pages; ++page) {
      KVEC_ASSIGN_OR_RETURN(pages.emplace_back(), AllocatePage());
    }
  }
  most_pages_in_step_ = std::max<uint64_t>(most_pages_in_step_,
                                           capacity_.total_pages - free_.size());
  for (uint32_t page : pages) ReleasePage(page);
  return absl::OkStatus();
}

// Keeps in each head of a full layer its share of the budget, one more or less by turns.
absl::Status FakeWorker::Evict(const v1::EvictionOrder& order, v1::StepResult& result) {
  const auto found = sequences_.find(order.sequence_id());
  if (found == sequences_.end()) return Fault(order.sequence_id(), "evicted, but not known");
  Sequence& sequence = found->second;
  if (sequence.num_tokens != order.position()) {
    return Fault(order.sequence_id(), absl::StrCat("evicted at ", order.position(), ", is at ",
                                                   sequence.num_tokens));
  }
  const v1::SequenceStart& start = sequence.start;
  if (start.cache().second_reading() && sequence.num_read_again != start.first_prompt_tokens()) {
    return Fault(order.sequence_id(), "evicted before it was read again");
  }
  const std::vector<uint32_t> budgets(order.layer_budgets().begin(), order.layer_budgets().end());
  sequence.state = FakeModel::Evict(sequence.state, budgets);
  std::vector<uint32_t> shared;
  for (size_t i = 0; i < sequence.tables.size(); ++i) {
    Table& table = sequence.tables[i];
    if (window_of(i) != 0) continue;
    const uint32_t layer = static_cast<uint32_t>(i) / capacity_.num_kv_heads;
    const uint32_t share = budgets[layer % budgets.size()] / capacity_.num_kv_heads + i % 2;
    table.num_entries = std::min(table.num_entries, std::max(1u, share));
    const size_t num_pages = (table.num_entries + kTokensPerPage - 1) / kTokensPerPage;
    // What others share is not written: all copies are made before anything is freed.
    for (size_t page = 0; page < num_pages; ++page) {
      if (references_[table.pages[page]] == 1) continue;
      shared.push_back(table.pages[page]);
      KVEC_ASSIGN_OR_RETURN(table.pages[page], AllocatePage());
    }
  }
  for (uint32_t page : shared) ReleasePage(page);
  for (size_t i = 0; i < sequence.tables.size(); ++i) {
    Table& table = sequence.tables[i];
    if (window_of(i) != 0) continue;
    const size_t num_pages = (table.num_entries + kTokensPerPage - 1) / kTokensPerPage;
    for (; table.pages.size() > num_pages; table.pages.pop_back()) ReleasePage(table.pages.back());
  }
  v1::EvictionReport& report = *result.add_evictions();
  report.set_sequence_id(order.sequence_id());
  report.set_position(order.position());
  uint64_t kept_entries = 0;
  for (const Table& table : sequence.tables) kept_entries += table.num_entries;
  report.set_kept_entries(kept_entries);
  return absl::OkStatus();
}

absl::Status FakeWorker::Append(Sequence& sequence, uint32_t num_tokens) {
  for (Table& table : sequence.tables) {
    table.num_entries += num_tokens;
    while (table.pages.size() * kTokensPerPage < table.num_entries) {
      KVEC_ASSIGN_OR_RETURN(const uint32_t page, AllocatePage());
      table.pages.push_back(page);
    }
  }
  return absl::OkStatus();
}

void FakeWorker::ReleaseSlidOut(Sequence& sequence) {
  for (size_t i = 0; i < sequence.tables.size(); ++i) {
    Table& table = sequence.tables[i];
    // A page goes when the next token, at entry num_entries, is a window or more past its last
    // entry.
    while (window_of(i) != 0 &&
           (table.num_released + 1) * kTokensPerPage - 1 + window_of(i) <= table.num_entries) {
      ReleasePage(table.pages[table.num_released++]);
    }
  }
}

void FakeWorker::Free(Sequence& sequence) {
  for (Table& table : sequence.tables) {
    for (size_t i = table.num_released; i < table.pages.size(); ++i) ReleasePage(table.pages[i]);
  }
}

absl::Status FakeWorker::Work(const v1::SequenceWork& work, v1::StepResult& result) {
  Sequence& sequence = sequences_[work.sequence_id()];
  if (work.first_position() != sequence.num_tokens) {
    return Fault(work.sequence_id(), absl::StrCat("first_position ", work.first_position(),
                                                  ", is at ", sequence.num_tokens));
  }
  std::vector<int32_t> tokens(work.token_ids().begin(), work.token_ids().end());
  if (tokens.empty()) {
    const auto sampled = sequence.sampled.find(sequence.start.sampling().choice());
    if (sampled == sequence.sampled.end()) return Fault(work.sequence_id(), "nothing was sampled");
    tokens.push_back(sampled->second);
  }
  sequence.sampled.clear();
  sequence.is_forkable = false;
  v1::SequenceResult scores;
  scores.set_sequence_id(work.sequence_id());
  const auto score = [&](int32_t token) {
    const v1::StepSampling& sampling = sequence.start.sampling();
    const bool is_prompt = sequence.num_tokens < sequence.start.prompt_tokens();
    const int32_t num_top = is_prompt ? sampling.prompt_logprobs() : sampling.logprobs();
    *scores.add_scored() = FakeModel::LogProbs(sequence.logits, token, std::max(0, num_top));
  };
  for (size_t i = 0; i < tokens.size(); ++i) {
    // The first prompt is one; what was generated, or belongs to a session's earlier requests, is
    // checked by what the model makes of it.
    if (work.is_prompt() ? sequence.num_tokens >= sequence.start.prompt_tokens()
                         : sequence.num_tokens < sequence.start.first_prompt_tokens()) {
      return Fault(work.sequence_id(), "a token is fed in the wrong role");
    }
    if (i > 0 && work.score_tokens()) score(tokens[i]);
    sequence.state = FakeModel::Feed(sequence.state, tokens[i], work.is_prompt());
    sequence.logits = sequence.state;
    sequence.states.push_back(sequence.state);
    ++sequence.num_tokens;
  }
  if (work.has_next_token_id()) score(static_cast<int32_t>(work.next_token_id()));
  if (is_sampler_ && scores.scored_size() > 0) *result.add_results() = scores;
  if (work.sample()) Sample(work, sequence, result);
  if (is_sampler_ && !work.curve_budgets().empty()) {
    *result.add_curves() = FakeModel::Curves(sequence.state, work);
  }
  return absl::OkStatus();
}

void FakeWorker::Sample(const v1::SequenceWork& work, Sequence& sequence, v1::StepResult& result) {
  v1::StepSampling sampling = sequence.start.sampling();
  sequence.is_forkable = work.num_choices() > 1;
  for (uint32_t i = 0; i < std::max(1u, work.num_choices()); ++i) {
    if (work.num_choices() > 1) sampling.set_choice(i);
    const int32_t token = FakeModel::Sample(sequence.logits, sampling,
                                            sequence.start.prompt_tokens(), sequence.num_tokens);
    sequence.sampled[sampling.choice()] = token;
    if (!is_sampler_) continue;
    v1::SequenceResult& sampled = *result.add_results();
    sampled.set_sequence_id(work.sequence_id());
    sampled.set_token_id(static_cast<uint32_t>(token));
    if (work.num_choices() > 1) sampled.set_choice(i);
    if (sampling.logprobs() >= 0) {
      *sampled.mutable_logprobs() =
          FakeModel::LogProbs(sequence.logits, token, sampling.logprobs());
    }
  }
}

}  // namespace kvec::coordinator::scheduler
