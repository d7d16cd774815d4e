#include "tests/coordinator/scheduler/fake_model.h"

#include <algorithm>

namespace kvec::coordinator::scheduler {
namespace {

uint64_t Mix(uint64_t state, uint64_t value) {
  state = (state ^ value) * 0xff51afd7ed558ccdull;
  return state ^ (state >> 29);
}

}  // namespace

FakeModel::State FakeModel::Feed(State state, int32_t token, bool is_prompt) {
  return Mix(state, static_cast<uint64_t>(token) * 2 + (is_prompt ? 1 : 0));
}

FakeModel::State FakeModel::Evict(State state, const std::vector<uint32_t>& layer_budgets) {
  for (uint32_t budget : layer_budgets) state = Mix(state, budget + 1'000'000);
  return state;
}

v1::CurveReport FakeModel::Curves(State state, const v1::SequenceWork& work) {
  v1::CurveReport report;
  report.set_sequence_id(work.sequence_id());
  const uint32_t num_layers = work.curve_budgets(work.curve_budgets_size() - 1);
  for (uint32_t layer = 0; layer < num_layers; ++layer) {
    v1::LayerCurve& curve = *report.add_layers();
    curve.set_layer(layer);
    for (uint32_t budget : work.curve_budgets()) {
      curve.add_kept_share(static_cast<float>(Mix(Mix(state, layer), budget) % 1000) / 1000);
    }
  }
  return report;
}

int32_t FakeModel::Sample(State state, const v1::StepSampling& sampling, uint32_t prompt_tokens,
                          uint32_t position) {
  uint64_t draw = Mix(Mix(Mix(state, sampling.seed()), sampling.choice()), position);
  const auto& stops = sampling.stop_token_ids();
  while (true) {
    const auto token = static_cast<int32_t>(draw % kVocabSize);
    const bool is_stop = std::find(stops.begin(), stops.end(), token) != stops.end();
    if (!is_stop || position >= prompt_tokens + sampling.min_tokens()) return token;
    draw = Mix(draw, 1);
  }
}

v1::TokenLogProbs FakeModel::LogProbs(State state, int32_t token, int32_t num_top) {
  v1::TokenLogProbs logprobs;
  logprobs.mutable_chosen()->set_token_id(static_cast<uint32_t>(token));
  logprobs.mutable_chosen()->set_log_prob(
      -static_cast<float>(Mix(state, static_cast<uint64_t>(token)) % 1000) / 100);
  for (int32_t i = 0; i < num_top; ++i) {
    logprobs.add_top()->set_token_id(static_cast<uint32_t>(Mix(state, i) % kVocabSize));
  }
  return logprobs;
}

ExpectedChoice RunAlone(const Request& request, uint32_t choice, const EvictionSchedule& schedule,
                        uint32_t stop_after) {
  ExpectedChoice expected;
  v1::StepSampling sampling = request.sampling;
  sampling.set_choice(choice);
  sampling.mutable_stop_token_ids()->Assign(request.stop_token_ids.begin(),
                                            request.stop_token_ids.end());
  const auto prompt_tokens = static_cast<uint32_t>(request.prompt.size());
  FakeModel::State state = FakeModel::kEmpty;
  FakeModel::State logits = FakeModel::kEmpty;
  uint32_t num_fed = 0;
  // Logits are those of before an eviction that follows the token.
  const auto feed = [&](int32_t token, bool is_prompt) {
    state = logits = FakeModel::Feed(state, token, is_prompt);
    const auto* layer_budgets = schedule.BudgetsAt(++num_fed);
    if (layer_budgets != nullptr) state = FakeModel::Evict(state, *layer_budgets);
  };
  for (uint32_t position = 0; position < prompt_tokens; ++position) {
    const int32_t token = request.prompt[position];
    if (position > 0 && choice == 0 && sampling.prompt_logprobs() >= 0) {
      expected.prompt_logprobs.push_back(
          FakeModel::LogProbs(logits, token, sampling.prompt_logprobs()));
    }
    feed(token, true);
  }
  const bool is_forced = !request.forced_tokens.empty();
  while (true) {
    const auto index = static_cast<uint32_t>(expected.tokens.size());
    const int32_t token =
        is_forced ? request.forced_tokens[index]
                  : FakeModel::Sample(logits, sampling, prompt_tokens, prompt_tokens + index);
    expected.tokens.push_back(token);
    if (is_forced || sampling.logprobs() >= 0) {
      expected.logprobs.push_back(
          FakeModel::LogProbs(logits, token, std::max(0, sampling.logprobs())));
    }
    const auto& stops = request.stop_token_ids;
    if (expected.tokens.size() == stop_after) {
      expected.reason = v1::FINISH_REASON_STOP;
    } else if (is_forced) {
      if (expected.tokens.size() == request.forced_tokens.size()) {
        expected.reason = v1::FINISH_REASON_FORCED;
      }
    } else if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      expected.reason = v1::FINISH_REASON_STOP;
    } else if (expected.tokens.size() == request.max_tokens) {
      expected.reason = v1::FINISH_REASON_LENGTH;
    }
    if (expected.reason != v1::FINISH_REASON_UNSPECIFIED) return expected;
    feed(token, false);
  }
}

}  // namespace kvec::coordinator::scheduler
