#include "coordinator/client/request_options.h"

#include <cstdint>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kvec::coordinator::client {
namespace {

// "42=-1.5": token 42's logit is lowered by 1.5.
void ParseLogitBias(const std::string& text, v1::SamplingParameters& sampling) {
  const size_t equals = text.find('=');
  uint32_t token_id = 0;
  float bias = 0;
  if (equals == std::string::npos || !absl::SimpleAtoi(text.substr(0, equals), &token_id) ||
      !absl::SimpleAtof(text.substr(equals + 1), &bias)) {
    throw CLI::ValidationError("--logit-bias", absl::StrCat("'", text, "' is not ID=VALUE"));
  }
  (*sampling.mutable_logit_bias())[token_id] = bias;
}

}  // namespace

void AddSamplingOptions(CLI::App& command, v1::SamplingParameters& sampling) {
  const auto add_float = [&](const char* flag, void (v1::SamplingParameters::*set)(float),
                             const char* help) {
    command
        .add_option_function<float>(
            flag, [&sampling, set](const float& value) { (sampling.*set)(value); }, help)
        ->type_name("X")
        ->group("Sampling");
  };
  using Sampling = v1::SamplingParameters;
  add_float("--temperature", &Sampling::set_temperature, "0: always the most probable token");
  add_float("--top-p", &Sampling::set_top_p, "Sample from the smallest set of this probability");
  add_float("--min-p", &Sampling::set_min_p, "Drop tokens below this share of the best one's");
  add_float("--repetition-penalty", &Sampling::set_repetition_penalty,
            "Divides logits of tokens seen in prompt or answer; 1: off");
  add_float("--frequency-penalty", &Sampling::set_frequency_penalty,
            "Lowers logits by this times the token's count in the answer");
  add_float("--presence-penalty", &Sampling::set_presence_penalty,
            "Lowers logits of tokens that are in the answer");
  command
      .add_option_function<uint32_t>(
          "--top-k", [&sampling](const uint32_t& value) { sampling.set_top_k(value); },
          "Sample from the K most probable tokens; 0: all")
      ->type_name("K")
      ->group("Sampling");
  command
      .add_option_function<uint64_t>(
          "--seed", [&sampling](const uint64_t& value) { sampling.set_seed(value); },
          "Same seed, same answer; drawn by the coordinator when not given")
      ->type_name("N")
      ->group("Sampling");
  command
      .add_option_function<std::vector<std::string>>(
          "--logit-bias",
          [&sampling](const std::vector<std::string>& biases) {
            for (const std::string& bias : biases) ParseLogitBias(bias, sampling);
          },
          "Adds VALUE to a token's logit; may be repeated")
      ->type_name("ID=VALUE")
      ->delimiter(',')
      ->group("Sampling");
}

void AddStoppingOptions(CLI::App& command, v1::StoppingCriteria& stopping) {
  command
      .add_option_function<uint32_t>(
          "--max-tokens", [&stopping](const uint32_t& value) { stopping.set_max_tokens(value); },
          "Longest answer; up to the context length when not given")
      ->type_name("N")
      ->group("Stopping");
  command
      .add_option_function<uint32_t>(
          "--min-tokens", [&stopping](const uint32_t& value) { stopping.set_min_tokens(value); },
          "No stop token is sampled before these many")
      ->type_name("N")
      ->group("Stopping");
  command
      .add_option_function<std::vector<std::string>>(
          "--stop",
          [&stopping](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) stopping.add_stop(text);
          },
          "Ends the answer before this text; may be repeated")
      ->type_name("TEXT")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->group("Stopping");
  command
      .add_option_function<std::vector<uint32_t>>(
          "--stop-token-ids",
          [&stopping](const std::vector<uint32_t>& ids) {
            stopping.mutable_stop_token_ids()->Add(ids.begin(), ids.end());
          },
          "Stop tokens beside the model's own")
      ->type_name("ID,ID,...")
      ->delimiter(',')
      ->group("Stopping");
  command
      .add_flag_callback(
          "--ignore-eos", [&stopping] { stopping.set_ignore_eos(true); },
          "Goes on after the model's end-of-text tokens")
      ->group("Stopping");
  command
      .add_flag_callback(
          "--include-stop", [&stopping] { stopping.set_include_stop(true); },
          "Keeps a matched stop text in the answer")
      ->group("Stopping");
}

void ParseBudget(const std::string& text, v1::CachePolicy& cache) {
  uint32_t tokens = 0;
  float share = 0;
  if (absl::SimpleAtoi(text, &tokens)) {
    cache.set_budget_tokens(tokens);
  } else if (text.find('.') != std::string::npos && absl::SimpleAtof(text, &share)) {
    cache.set_budget_share(share);
  } else {
    throw CLI::ValidationError("--budget",
                               absl::StrCat("'", text,
                                            "' is neither a number of tokens (256) nor a share "
                                            "of the prompt (0.25)"));
  }
}

void AddCachePolicyOptions(CLI::App& command, v1::CachePolicy& cache) {
  const auto add_count = [&](const char* flag, void (v1::CachePolicy::*set)(uint32_t),
                             const char* help) {
    command
        .add_option_function<uint32_t>(
            flag, [&cache, set](const uint32_t& value) { (cache.*set)(value); }, help)
        ->type_name("N")
        ->group("KV cache");
  };
  const auto add_weight = [&](const char* flag, void (v1::CachePolicy::*set)(float),
                              const char* help) {
    command
        .add_option_function<float>(
            flag, [&cache, set](const float& value) { (cache.*set)(value); }, help)
        ->type_name("X")
        ->group("KV cache");
  };
  const auto add_name = [&](const char* flag, std::string* field, const char* help) {
    command.add_option(flag, *field, help)->type_name("NAME")->group("KV cache");
  };
  using Cache = v1::CachePolicy;
  add_name("--policy", cache.mutable_policy(),
           "What survives in the cache; `kvec status` lists them");
  command
      .add_option_function<std::string>(
          "--budget", [&cache](const std::string& text) { ParseBudget(text, cache); },
          "Entries kept per KV head: tokens (256) or a share of the prompt (0.25)")
      ->type_name("N|SHARE")
      ->group("KV cache");
  add_count("--prefill-bound", &Cache::set_prefill_bound_tokens,
            "Most entries per KV head while the prompt is read; 0: none");
  add_count("--decode-interval", &Cache::set_decode_interval_tokens,
            "Evicts down to the budget again after so many generated tokens; 0: never");
  command
      .add_flag_callback("--second-reading", [&cache] { cache.set_second_reading(true); },
                         "Reads the prompt twice and keeps what anybody could ask about (kvec)")
      ->group("KV cache");
  add_count("--observation-window", &Cache::set_observation_window,
            "Last prompt tokens whose queries score the others, and that stay");
  add_count("--wide-window", &Cache::set_wide_window, "Window of the widened heads");
  add_weight("--lambda", &Cache::set_lambda, "Weight of cross-layer coverage (kvec-paper)");
  add_weight("--beta", &Cache::set_beta, "Share of best-scored tokens forced in (kvec-paper)");
  add_count("--delta", &Cache::set_delta, "Widened KV heads per layer (kvec-paper)");
  add_name("--layer-allocation", cache.mutable_layer_allocation(), "uniform, pyramid, coverage");
  add_name("--head-allocation", cache.mutable_head_allocation(), "uniform, adaptive");
}

}  // namespace kvec::coordinator::client
