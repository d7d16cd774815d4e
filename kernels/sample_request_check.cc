#include "kernels/sample_request_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"

namespace kvec::kernels {
namespace {

template <typename T>
absl::Status Bad(absl::string_view field, T value, absl::string_view wanted) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", value, " is not ", wanted));
}

absl::Status CheckToken(absl::string_view field, int32_t token, int vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": token ", token, " outside the vocabulary of ", vocab_size));
}

absl::Status CheckTokens(const SampleRequest& request, int vocab_size) {
  for (const TokenCount& count : request.counts) {
    KVEC_RETURN_IF_ERROR(CheckToken("counts", count.token, vocab_size));
  }
  for (const auto& [token, bias] : request.logit_bias) {
    KVEC_RETURN_IF_ERROR(CheckToken("logit_bias", token, vocab_size));
    if (!std::isfinite(bias)) return Bad("logit_bias", bias, "a finite number");
  }
  for (int32_t token : request.banned) {
    KVEC_RETURN_IF_ERROR(CheckToken("banned", token, vocab_size));
  }
  if (request.given_token >= 0) {
    KVEC_RETURN_IF_ERROR(CheckToken("given_token", request.given_token, vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSampleRequest(const SampleRequest& request, int num_rows, int vocab_size) {
  if (request.row < 0 || request.row >= num_rows) {
    return absl::InvalidArgumentError(
        absl::StrCat("row: ", request.row, " of ", num_rows, " rows of logits"));
  }
  // Written so that NaN fails.
  if (!(request.temperature >= 0 && std::isfinite(request.temperature))) {
    return Bad("temperature", request.temperature, "a number of at least 0");
  }
  if (request.top_k < 0) return Bad("top_k", request.top_k, "at least 0");
  if (!(request.top_p > 0 && request.top_p <= 1)) {
    return Bad("top_p", request.top_p, "above 0 and at most 1");
  }
  if (!(request.min_p >= 0 && request.min_p <= 1)) {
    return Bad("min_p", request.min_p, "between 0 and 1");
  }
  if (!(request.repetition_penalty > 0 && std::isfinite(request.repetition_penalty))) {
    return Bad("repetition_penalty", request.repetition_penalty, "a number above 0");
  }
  if (!std::isfinite(request.frequency_penalty)) {
    return Bad("frequency_penalty", request.frequency_penalty, "a finite number");
  }
  if (!std::isfinite(request.presence_penalty)) {
    return Bad("presence_penalty", request.presence_penalty, "a finite number");
  }
  return CheckTokens(request, vocab_size);
}

}  // namespace kvec::kernels
