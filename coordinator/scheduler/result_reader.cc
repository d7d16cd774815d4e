#include "coordinator/scheduler/result_reader.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::coordinator::scheduler {
namespace {

// Why the choice ends with `token`, its last one so far; nothing when it goes on.
std::optional<v1::FinishReason> ReasonToFinish(const Sequence& sequence, int32_t token,
                                               Verdict verdict) {
  const RequestState& state = sequence.request();
  const Request& request = state.request;
  if (verdict == Verdict::kStop) return v1::FINISH_REASON_STOP;
  if (state.is_forced()) {
    if (sequence.num_delivered() < request.forced_tokens.size()) return std::nullopt;
    return v1::FINISH_REASON_FORCED;
  }
  const std::vector<int32_t>& stops = request.stop_token_ids;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return v1::FINISH_REASON_STOP;
  if (sequence.num_delivered() >= request.max_tokens) return v1::FINISH_REASON_LENGTH;
  return std::nullopt;
}

absl::Status Mismatch(const StepInFlight& step, const v1::SequenceResult& result,
                      absl::string_view what) {
  return absl::InternalError(absl::StrCat("step ", step.step_id(), ": result of sequence ",
                                          result.sequence_id(), ": ", what));
}

}  // namespace

absl::Status ResultReader::Read(uint32_t worker, StepInFlight& step, const v1::StepResult& result) {
  KVEC_RETURN_IF_ERROR(ReadPages(worker, step, result));
  for (const v1::CurveReport& report : result.curves()) {
    KVEC_RETURN_IF_ERROR(ReadCurves(step, report));
  }
  step.AddResults(result);
  return absl::OkStatus();
}

absl::Status ResultReader::ReadResults(StepInFlight& step, absl::Time now) {
  for (const v1::SequenceResult& sequence_result : step.results()) {
    // Workers that don't sample may name the sequences they have worked on.
    if (!sequence_result.has_token_id() && sequence_result.scored().empty()) continue;
    KVEC_RETURN_IF_ERROR(ReadSequence(step, sequence_result, now));
  }
  return absl::OkStatus();
}

absl::Status ResultReader::ReadPages(uint32_t worker, StepInFlight& step,
                                     const v1::StepResult& result) {
  uint32_t num_evicted = 0;
  for (const v1::SequencePages& pages : result.changed_pages()) {
    const WorkInFlight* work = step.Find(pages.sequence_id());
    if (work == nullptr) continue;  // a fork without work, whose pages are known
    ledger_.OnSequencePages(worker, pages.sequence_id(), pages.pages(), work->plan.rows_after);
    ledger_.OnPeakPages(worker, pages.sequence_id(), pages.peak_pages());
    if (work->plan.is_evicted) ++num_evicted;
  }
  if (num_evicted != step.num_evicted()) {
    return absl::InternalError(absl::StrCat("step ", step.step_id(), ": worker ", worker,
                                            " gave changed_pages of ", num_evicted,
                                            " evicted sequences, expected ", step.num_evicted()));
  }
  for (const v1::EvictionReport& eviction : result.evictions()) {
    WorkInFlight* work = step.Find(eviction.sequence_id());
    if (work == nullptr || !work->plan.is_evicted || eviction.position() != work->plan.rows_after) {
      return absl::InternalError(absl::StrCat("step ", step.step_id(), ": eviction of sequence ",
                                              eviction.sequence_id(), " at ", eviction.position(),
                                              " was not ordered"));
    }
    ledger_.OnEviction(worker, eviction.sequence_id(), eviction.kept_entries(),
                       eviction.position());
    work->request->eviction.Add(worker, num_kv_heads_, eviction);
  }
  return ledger_.OnFreePages(worker, result.free_pages(), step.used_at_most(worker));
}

absl::Status ResultReader::ReadCurves(StepInFlight& step, const v1::CurveReport& report) {
  WorkInFlight* work = step.Find(report.sequence_id());
  if (work == nullptr || budgets_ == nullptr || work->plan.num_curves == 0) {
    return absl::InternalError(absl::StrCat("step ", step.step_id(), ": curves of sequence ",
                                            report.sequence_id(), " were not asked for"));
  }
  for (const v1::LayerCurve& curve : report.layers()) {
    KVEC_RETURN_IF_ERROR(work->request->schedule.AddCurve(curve, *budgets_));
    ++work->num_curves;
  }
  return absl::OkStatus();
}

absl::Status ResultReader::ReadSequence(StepInFlight& step, const v1::SequenceResult& result,
                                        absl::Time now) {
  WorkInFlight* work = step.Find(result.sequence_id());
  if (work == nullptr) return Mismatch(step, result, "it has no work in the step");
  if (!result.scored().empty()) {
    if (work->is_scored || result.scored_size() != static_cast<int>(work->plan.num_scored)) {
      return Mismatch(step, result,
                      absl::StrCat("scored has ", result.scored_size(), " entries, expected ",
                                   work->plan.num_scored));
    }
    ReadScores(*work, result, now);
  }
  if (!result.has_token_id()) return absl::OkStatus();
  if (work->num_sampled == work->plan.num_samples) {
    return Mismatch(step, result,
                    absl::StrCat("token_id ", result.token_id(), " was not asked for"));
  }
  if (result.token_id() > std::numeric_limits<int32_t>::max()) {
    return Mismatch(step, result, absl::StrCat("token_id ", result.token_id()));
  }
  if (work->plan.num_samples > 1 && result.choice() != work->num_sampled) {
    return Mismatch(step, result,
                    absl::StrCat("choice ", result.choice(), ", expected ", work->num_sampled));
  }
  if (work->request->request.sampling.logprobs() >= 0 && !result.has_logprobs()) {
    return Mismatch(step, result, "logprobs are missing");
  }
  ReadSample(*work, result, now);
  return absl::OkStatus();
}

void ResultReader::ReadScores(WorkInFlight& work, const v1::SequenceResult& result,
                              absl::Time now) {
  work.is_scored = true;
  Sequence& sequence = work.request->choices[work.choice];
  sequence.OnScoresAnswered();
  const Request& request = work.request->request;
  const uint32_t prompt_tokens = work.request->prompt_tokens();
  std::vector<v1::TokenLogProbs> of_prompt;
  const auto deliver_prompt = [&] {
    if (!of_prompt.empty()) request.sink->OnPromptLogProbs(of_prompt);
    of_prompt.clear();
  };
  for (int i = 0; i < result.scored_size(); ++i) {
    const uint32_t position = work.plan.first_scored + static_cast<uint32_t>(i);
    if (!sequence.OnScored(position)) continue;  // known from before a replay, or nobody asks now
    if (position < prompt_tokens) {
      of_prompt.push_back(result.scored(i));
      continue;
    }
    deliver_prompt();
    Deliver(sequence, request.forced_tokens[position - prompt_tokens], &result.scored(i), now);
  }
  deliver_prompt();
}

void ResultReader::ReadSample(WorkInFlight& work, const v1::SequenceResult& result,
                              absl::Time now) {
  Sequence& sequence = work.request->choices[work.choice + work.num_sampled];
  ++work.num_sampled;
  const bool is_wanted = sequence.state() != Sequence::State::kFinished;
  const auto token = static_cast<int32_t>(result.token_id());
  sequence.OnSampled(token);
  if (!is_wanted) return;
  const bool wants_logprobs = work.request->request.sampling.logprobs() >= 0;
  Deliver(sequence, token, wants_logprobs ? &result.logprobs() : nullptr, now);
}

void ResultReader::Deliver(Sequence& sequence, int32_t token, const v1::TokenLogProbs* logprobs,
                           absl::Time now) {
  RequestState& request = sequence.request();
  ++num_generated_;
  request.metrics.OnToken(sequence.choice(), now);
  const Verdict verdict = request.request.sink->OnToken(sequence.choice(), token, logprobs);
  const auto reason = ReasonToFinish(sequence, token, verdict);
  if (reason.has_value()) requests_.FinishChoice(sequence, *reason, ledger_);
}

}  // namespace kvec::coordinator::scheduler
