#include "coordinator/scheduler/sequence.h"

#include <algorithm>

#include "coordinator/scheduler/request_state.h"

namespace kvec::coordinator::scheduler {

Sequence::Sequence(RequestState& request, uint32_t choice)
    : request_(request),
      choice_(choice),
      state_(choice == 0 ? State::kWaiting : State::kJoined),
      generated_(request.request.forced_tokens),
      next_scored_(choice == 0 && request.request.sampling.prompt_logprobs() >= 0
                       ? 1
                       : request.prompt_tokens()) {}

uint32_t Sequence::num_tokens() const {
  return request_.prompt_tokens() + static_cast<uint32_t>(generated_.size());
}

uint32_t Sequence::num_known_rows() const {
  // The last forced token is scored by the row before it: nobody needs its own row.
  return request_.is_forced() ? num_tokens() - 1 : num_tokens();
}

uint32_t Sequence::num_reserved_rows() const {
  const uint32_t first_eviction = request_.schedule.Next(request_.first_prompt_tokens() - 1);
  // A reading copies the prompt's last page.
  const uint32_t reading_rows = request_.schedule.reads_twice() ? kMaxReadingRows + kPageTokens : 0;
  return std::min(num_known_rows(), first_eviction) + reading_rows;
}

uint32_t Sequence::num_to_read() const {
  if (!eviction_due_ || !request_.schedule.reads_twice()) return 0;
  return request_.first_prompt_tokens() - num_read_again_;
}

void Sequence::QueueReading(uint32_t max_rows, v1::SequenceReading& reading) {
  const uint32_t num_tokens = std::min({max_rows, kMaxReadingRows, num_to_read()});
  reading.set_first_token(num_read_again_);
  reading.set_num_tokens(num_tokens);
  num_read_again_ += num_tokens;
}

bool Sequence::WantsMoreTokens() const {
  return !request_.is_forced() && generated_.size() + num_pending_ < request_.request.max_tokens;
}

bool Sequence::WantsDecode() const {
  // A session's next request goes on after the last token: none that comes to nothing may be fed.
  if (request_.session != nullptr && num_pending_ > 0) return false;
  if (eviction_due_) return false;
  return state_ == State::kDecode && WantsMoreTokens();
}

bool Sequence::CanBeContinued() const {
  return is_resident() && num_unanswered_ == 0 && !eviction_due_ &&
         num_rows_ + 1 == request_.prompt_tokens() + num_delivered_;
}

std::vector<int32_t> Sequence::DeliveredText() const {
  std::vector<int32_t> text = request_.request.prompt;
  text.insert(text.end(), generated_.begin(), generated_.begin() + num_delivered_);
  return text;
}

Sequence::Role Sequence::NextRole() const {
  for (const PositionSpan& prompt : request_.prompts) {
    if (num_rows_ < prompt.begin) return {false, prompt.begin};
    if (num_rows_ < prompt.end) return {true, prompt.end};
  }
  return {false, num_chunk_rows_};
}

uint32_t Sequence::max_cached_rows() const {
  const Request& request = request_.request;
  if (next_scored_ < request_.prompt_tokens() || request_.schedule.has_prefill()) return 0;
  uint32_t own_rows = 1;
  if (!request_.schedule.is_empty()) {
    own_rows =
        std::max({own_rows, request.cache.observation_window(), request.cache.wide_window()});
  }
  const uint32_t prompt_tokens = request_.first_prompt_tokens();
  return prompt_tokens - std::min(prompt_tokens, own_rows);
}

void Sequence::Start(uint64_t sequence_id, uint32_t num_cached_rows) {
  state_ = State::kChunks;
  sequence_id_ = sequence_id;
  num_rows_ = num_cached_rows;
  num_chunk_rows_ = num_known_rows();
  ++num_starts_;
}

void Sequence::Suspend() {
  state_ = State::kWaiting;
  sequence_id_ = 0;
  num_rows_ = 0;
  eviction_due_ = false;
  num_read_again_ = 0;
}

void Sequence::Finish() {
  state_ = State::kFinished;
  sequence_id_ = 0;
}

void Sequence::StartForked(uint64_t sequence_id) {
  state_ = State::kDecode;
  sequence_id_ = sequence_id;
  num_rows_ = request_.prompt_tokens();
  ++num_starts_;
}

void Sequence::ForgetUnanswered() {
  num_pending_ = 0;
  num_unanswered_ = 0;
}

uint32_t Sequence::NextChunkRows(uint32_t max_rows) const {
  // Prompt and generated tokens are different work: a chunk has one kind.
  const uint32_t end = std::min(NextRole().end, num_chunk_rows_);
  return std::min({max_rows, end - num_rows_, request_.schedule.Next(num_rows_) - num_rows_});
}

WorkPlan Sequence::QueueChunk(uint32_t num_rows, v1::SequenceWork& work) {
  const uint32_t begin = num_rows_;
  const uint32_t end = begin + num_rows;
  work.set_sequence_id(sequence_id_);
  work.set_is_prompt(NextRole().is_prompt);
  work.set_first_position(begin);
  work.mutable_token_ids()->Reserve(static_cast<int>(num_rows));
  for (uint32_t position = begin; position < end; ++position) {
    work.add_token_ids(static_cast<uint32_t>(TokenAt(position)));
  }
  WorkPlan plan{.rows_after = end};
  PlanScores(begin, end, work, plan);
  num_rows_ = end;
  if (end == num_chunk_rows_) {
    state_ = State::kDecode;
    if (!request_.is_forced()) {
      work.set_sample(true);
      plan.num_samples = 1;
      ++num_pending_;
      ++num_unanswered_;
    }
  }
  if (plan.num_scored > 0) ++num_unanswered_;
  return plan;
}

WorkPlan Sequence::QueueDecode(v1::SequenceWork& work) {
  work.set_sequence_id(sequence_id_);
  work.set_first_position(num_rows_);
  work.set_sample(true);
  ++num_rows_;
  ++num_pending_;
  ++num_unanswered_;
  return {.rows_after = num_rows_, .num_samples = 1};
}

void Sequence::JoinSample() {
  state_ = State::kForkDue;
  ++num_pending_;
  ++num_unanswered_;
}

void Sequence::OnSampled(int32_t token) {
  --num_pending_;
  --num_unanswered_;
  if (state_ == State::kFinished) return;
  generated_.push_back(token);
  ++num_delivered_;
}

bool Sequence::OnScored(uint32_t position) {
  if (state_ == State::kFinished || position != next_scored_) return false;
  ++next_scored_;
  if (position >= request_.prompt_tokens()) ++num_delivered_;
  return true;
}

// The tokens before this position are to be scored.
uint32_t Sequence::score_end() const {
  return request_.is_forced() ? num_tokens() : request_.prompt_tokens();
}

int32_t Sequence::TokenAt(uint32_t position) const {
  const uint32_t prompt_tokens = request_.prompt_tokens();
  return position < prompt_tokens ? request_.request.prompt[position]
                                  : generated_[position - prompt_tokens];
}

// Rows begin … end - 1 predict tokens begin + 1 … end, of which those are scored that the client
// wants and has not got (a replay feeds some again).
void Sequence::PlanScores(uint32_t begin, uint32_t end, v1::SequenceWork& work,
                          WorkPlan& plan) const {
  const bool scores_fed = next_scored_ < std::min(end, score_end());
  const bool scores_next = next_scored_ <= end && end < score_end();
  if (scores_fed && end - begin > 1) {
    work.set_score_tokens(true);
    plan.first_scored = begin + 1;
    plan.num_scored = end - begin - 1;
  }
  if (scores_next) {
    work.set_next_token_id(static_cast<uint32_t>(TokenAt(end)));
    if (plan.num_scored == 0) plan.first_scored = end;
    ++plan.num_scored;
  }
}

}  // namespace kvec::coordinator::scheduler
