#include "coordinator/client/generation_json.h"

#include "nlohmann/json.hpp"

namespace kvec::coordinator::client {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const v1::TokenLogProb& token) {
  return {{"token_id", token.token_id()}, {"log_prob", token.log_prob()}};
}

Json ToJson(const std::vector<v1::TokenLogProbs>& tokens) {
  Json list = Json::array();
  for (const v1::TokenLogProbs& logprobs : tokens) {
    Json entry = ToJson(logprobs.chosen());
    entry["top"] = Json::array();
    for (const v1::TokenLogProb& alternative : logprobs.top()) {
      entry["top"].push_back(ToJson(alternative));
    }
    list.push_back(std::move(entry));
  }
  return list;
}

Json ToJson(const v1::LayerCacheUsage& layer) {
  return {{"layer", layer.layer()},
          {"budget", layer.budget()},
          {"kept_entries", layer.kept_entries()},
          {"unique_tokens", layer.unique_tokens()},
          {"attention_mass", layer.attention_mass()}};
}

Json ToJson(const v1::Usage& usage) {
  Json layers = Json::array();
  for (const v1::LayerCacheUsage& layer : usage.layers()) layers.push_back(ToJson(layer));
  return {{"prompt_tokens", usage.prompt_tokens()},
          {"completion_tokens", usage.completion_tokens()},
          {"cached_tokens", usage.cached_tokens()},
          {"session_tokens", usage.session_tokens()},
          {"evicted_tokens", usage.evicted_tokens()},
          {"kv_bytes", usage.kv_bytes()},
          {"logical_kv_bytes", usage.logical_kv_bytes()},
          {"peak_kv_bytes", usage.peak_kv_bytes()},
          {"coverage", usage.coverage()},
          {"mean_layer_coverage", usage.mean_layer_coverage()},
          {"queue_ms", usage.queue_ms()},
          {"prefill_ms", usage.prefill_ms()},
          {"eviction_ms", usage.eviction_ms()},
          {"exchanged_bytes", usage.exchanged_bytes()},
          {"exchange_ms", usage.exchange_ms()},
          {"time_to_first_token_ms", usage.time_to_first_token_ms()},
          {"decode_tokens_per_second", usage.decode_tokens_per_second()},
          {"inter_token_ms", usage.inter_token_ms()},
          {"preemptions", usage.preemptions()},
          {"layers", std::move(layers)}};
}

void AddChoice(const Choice& choice, Json& object) {
  object["text"] = choice.text;
  object["token_ids"] = choice.token_ids;
  object["finish_reason"] = FinishReasonName(choice.finish_reason);
  if (!choice.stop_string.empty()) object["stop_string"] = choice.stop_string;
  object["logprobs"] = ToJson(choice.logprobs);
}

}  // namespace

std::string ToJson(const Generation& generation) {
  Json object;
  AddChoice(generation.choices.empty() ? Choice() : generation.choices.front(), object);
  object["prompt_token_ids"] = generation.prompt_token_ids;
  object["prompt_logprobs"] = ToJson(generation.prompt_logprobs);
  object["request_id"] = generation.request_id;
  object["seed"] = generation.seed;
  object["usage"] = ToJson(generation.usage);
  if (generation.choices.size() > 1) {
    for (const Choice& choice : generation.choices) {
      Json entry;
      AddChoice(choice, entry);
      object["choices"].push_back(std::move(entry));
    }
  }
  return object.dump();
}

}  // namespace kvec::coordinator::client
