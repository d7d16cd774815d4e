#include "coordinator/server/vllm/request_translation.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace kvec::coordinator::server::vllm {
namespace {

namespace engine = ::vllm::grpc::engine;
using engine::SamplingParams;

absl::Status NotOffered(absl::string_view field) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": not offered"));
}

// An answer that leaves these out would be another one than was asked for.
absl::Status CheckInput(const engine::GenerateRequest& request) {
  const std::pair<absl::string_view, bool> fields[] = {
      {"kv_transfer_params", request.has_kv_transfer_params()},
      {"kv_transfer_params_json", request.has_kv_transfer_params_json()},
      {"mm_inputs", request.has_mm_inputs()},
      {"extra_mm_inputs", !request.extra_mm_inputs().empty()},
      {"media_refs", request.has_media_refs()}};
  for (const auto& [field, is_set] : fields) {
    if (is_set) return NotOffered(field);
  }
  if (request.data_parallel_rank() == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("data_parallel_rank: ", request.data_parallel_rank(), ", there is only 0"));
}

absl::Status CheckConstraint(const SamplingParams& sampling) {
  if (sampling.constraint_case() == SamplingParams::CONSTRAINT_NOT_SET) return absl::OkStatus();
  const auto* field = sampling.GetDescriptor()->FindFieldByNumber(sampling.constraint_case());
  return NotOffered(absl::StrCat("sampling_params.", field->name(), ": constraints"));
}

absl::StatusOr<uint32_t> NumAlternatives(absl::string_view field, int32_t value) {
  if (value >= 0) return static_cast<uint32_t>(value);
  return absl::InvalidArgumentError(
      absl::StrCat("sampling_params.", field, ": ", value, " is negative"));
}

absl::StatusOr<v1::SamplingParameters> TranslateSampling(const SamplingParams& sampling) {
  v1::SamplingParameters translated;
  if (sampling.has_temperature()) translated.set_temperature(sampling.temperature());
  translated.set_top_k(sampling.top_k());
  if (sampling.top_p() != 0) translated.set_top_p(sampling.top_p());
  translated.set_min_p(sampling.min_p());
  if (sampling.repetition_penalty() != 0) {
    translated.set_repetition_penalty(sampling.repetition_penalty());
  }
  translated.set_frequency_penalty(sampling.frequency_penalty());
  translated.set_presence_penalty(sampling.presence_penalty());
  // Different seeds stay different.
  if (sampling.has_seed()) translated.set_seed(static_cast<uint32_t>(sampling.seed()));
  for (const auto& [id, bias] : sampling.logit_bias()) {
    if (id < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("sampling_params.logit_bias: token ", id, " is negative"));
    }
    (*translated.mutable_logit_bias())[static_cast<uint32_t>(id)] = bias;
  }
  if (sampling.n() != 0) translated.set_n(sampling.n());
  return translated;
}

v1::StoppingCriteria TranslateStopping(const SamplingParams& sampling) {
  v1::StoppingCriteria stopping;
  *stopping.mutable_stop() = sampling.stop();
  *stopping.mutable_stop_token_ids() = sampling.stop_token_ids();
  if (sampling.has_max_tokens()) stopping.set_max_tokens(sampling.max_tokens());
  stopping.set_min_tokens(sampling.min_tokens());
  stopping.set_ignore_eos(sampling.ignore_eos());
  stopping.set_include_stop(sampling.include_stop_str_in_output());
  return stopping;
}

void TranslateInput(const engine::GenerateRequest& request, std::optional<int32_t> bos_id,
                    v1::GenerateRequest& translated) {
  if (request.has_text()) translated.set_text(request.text());
  if (!request.has_tokenized()) return;
  const auto& ids = request.tokenized().input_ids();
  auto& translated_ids = *translated.mutable_token_ids()->mutable_ids();
  if (bos_id.has_value() && !ids.empty() && ids[0] != static_cast<uint32_t>(*bos_id)) {
    translated_ids.Add(static_cast<uint32_t>(*bos_id));
  }
  translated_ids.MergeFrom(ids);
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> TranslateRequest(const engine::GenerateRequest& request,
                                                     std::optional<int32_t> bos_id) {
  const SamplingParams& sampling = request.sampling_params();
  KVEC_RETURN_IF_ERROR(CheckInput(request));
  KVEC_RETURN_IF_ERROR(CheckConstraint(sampling));
  if (sampling.has_truncate_prompt_tokens()) {
    return NotOffered("sampling_params.truncate_prompt_tokens");
  }
  v1::GenerateRequest translated;
  translated.set_request_id(request.request_id());
  TranslateInput(request, bos_id, translated);
  KVEC_ASSIGN_OR_RETURN(*translated.mutable_sampling(), TranslateSampling(sampling));
  *translated.mutable_stopping() = TranslateStopping(sampling);
  if (sampling.has_logprobs()) {
    KVEC_ASSIGN_OR_RETURN(const uint32_t count, NumAlternatives("logprobs", sampling.logprobs()));
    translated.set_logprobs(count);
  }
  if (sampling.has_prompt_logprobs()) {
    KVEC_ASSIGN_OR_RETURN(const uint32_t count,
                          NumAlternatives("prompt_logprobs", sampling.prompt_logprobs()));
    translated.set_prompt_logprobs(count);
  }
  return translated;
}

}  // namespace kvec::coordinator::server::vllm
