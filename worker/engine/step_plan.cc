#include "worker/engine/step_plan.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::engine {
namespace {

constexpr uint32_t kMaxChoices = 1024;  // far above what requests may ask for

// The tokens that `work` feeds: those it names, or the one that was sampled last.
absl::StatusOr<std::vector<int32_t>> FedTokens(const v1::SequenceWork& work,
                                               const Sequence& sequence) {
  if (work.token_ids_size() > 0) {
    return std::vector<int32_t>(work.token_ids().begin(), work.token_ids().end());
  }
  if (sequence.last_sampled() < 0) {
    return absl::InternalError(
        absl::StrCat("sequence ", work.sequence_id(), ": nothing was sampled yet"));
  }
  return std::vector<int32_t>{sequence.last_sampled()};
}

// Asks for the logits that `work` wants; its rows begin at row_begin of the batch and feed `tokens`.
void PlanOutputs(const v1::SequenceWork& work, int index, const Sequence& sequence, int row_begin,
                 const std::vector<int32_t>& tokens, StepPlan& plan) {
  const int num_rows = static_cast<int>(tokens.size());
  const int first_result = plan.result.results_size();
  const uint32_t num_choices = std::max<uint32_t>(1, work.num_choices());
  for (uint32_t i = 0; i < num_choices; ++i) {
    v1::SequenceResult& result = *plan.result.add_results();
    result.set_sequence_id(work.sequence_id());
    result.set_choice(work.num_choices() > 1 ? i : sequence.choice());
  }
  const auto add_logits = [&](int row) {
    plan.batch.logit_rows.push_back(row_begin + row);
    return static_cast<int>(plan.batch.logit_rows.size()) - 1;
  };
  const auto position_after = [&](int row) { return work.first_position() + row + 1; };
  const auto score = [&](int row, int32_t token) {
    plan.outputs.push_back(
        {index, first_result, sequence.ScoreRequest(add_logits(row), position_after(row), token)});
  };
  if (work.score_tokens()) {
    for (int row = 0; row + 1 < num_rows; ++row) score(row, tokens[row + 1]);
  }
  if (work.has_next_token_id()) score(num_rows - 1, static_cast<int32_t>(work.next_token_id()));
  if (!work.sample()) return;
  const int logits = add_logits(num_rows - 1);
  for (uint32_t i = 0; i < num_choices; ++i) {
    const int result = first_result + static_cast<int>(i);
    plan.outputs.push_back({index, result,
                            sequence.DrawRequest(logits, position_after(num_rows - 1),
                                                 plan.result.results(result).choice())});
  }
}

absl::Status PlanWork(const v1::SequenceWork& work, int index, Sequence& sequence,
                      StepPlan& plan) {
  cache::SequenceCache& cache = sequence.cache();
  if (static_cast<int64_t>(work.first_position()) != sequence.next_position()) {
    return absl::InternalError(absl::StrCat("sequence ", work.sequence_id(), ": first_position ",
                                            work.first_position(), ", the cache is at ",
                                            sequence.next_position()));
  }
  if (work.num_choices() > kMaxChoices) {
    return absl::InternalError(absl::StrCat("sequence ", work.sequence_id(), ": num_choices ",
                                            work.num_choices(), ", at most ", kMaxChoices));
  }
  KVEC_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, FedTokens(work, sequence));
  KVEC_RETURN_IF_ERROR(cache.Append(static_cast<int>(tokens.size())));
  model::TokenBatch& batch = plan.batch;
  const int row_begin = batch.num_rows();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint32_t position = work.first_position() + static_cast<uint32_t>(i);
    batch.token_ids.push_back(tokens[i]);
    batch.positions.push_back(static_cast<int32_t>(position));
    sequence.Count(tokens[i], position);
  }
  batch.sequences.push_back(
      {row_begin, static_cast<int>(tokens.size()), work.is_prompt(), &cache,
       sequence.query_window()});
  PlanOutputs(work, index, sequence, row_begin, tokens, plan);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<StepPlan> PlanStep(const v1::Step& step, SequenceMap& sequences) {
  StepPlan plan;
  absl::flat_hash_set<const Sequence*> seen;
  for (int index = 0; index < step.work_size(); ++index) {
    const v1::SequenceWork& work = step.work(index);
    const auto found = sequences.find(work.sequence_id());
    if (found == sequences.end()) {
      return absl::InternalError(absl::StrCat("sequence ", work.sequence_id(), ": not known"));
    }
    if (!seen.insert(found->second.get()).second) {
      return absl::InternalError(
          absl::StrCat("sequence ", work.sequence_id(), ": has work twice in one Step"));
    }
    plan.sequences.push_back(found->second.get());
    KVEC_RETURN_IF_ERROR(PlanWork(work, index, *found->second, plan));
  }
  plan.samples.resize(plan.outputs.size());
  return plan;
}

}  // namespace kvec::worker::engine
