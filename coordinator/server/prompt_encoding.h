#ifndef KVEC_COORDINATOR_SERVER_PROMPT_ENCODING_H_
#define KVEC_COORDINATOR_SERVER_PROMPT_ENCODING_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "coordinator/server/served_model.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// The token ids of a request's input. INVALID_ARGUMENT names the field: no input, an empty one, an
// id outside the vocabulary, a chat the template cannot render, and of a GenerateRequest a text
// that is longer than any that the context can hold. FAILED_PRECONDITION for a chat when the model
// has no chat template.
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const v1::GenerateRequest& request,
                                                  const ServedModel& model);
absl::StatusOr<std::vector<int32_t>> EncodePrompt(const v1::TokenizeRequest& request,
                                                  const ServedModel& model);

// The ids as the coordinator holds them. INVALID_ARGUMENT for one outside the vocabulary.
absl::StatusOr<std::vector<int32_t>> CheckTokenIds(absl::string_view field,
                                                   absl::Span<const uint32_t> ids,
                                                   const ServedModel& model);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_PROMPT_ENCODING_H_
