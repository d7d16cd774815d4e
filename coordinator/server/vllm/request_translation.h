#ifndef KVEC_COORDINATOR_SERVER_VLLM_REQUEST_TRANSLATION_H_
#define KVEC_COORDINATOR_SERVER_VLLM_REQUEST_TRANSLATION_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "kvec/v1/inference.pb.h"
#include "vllm/engine.pb.h"

namespace kvec::coordinator::server::vllm {

// What a request of the gateway's is in our own words. `bos_id`: of a model whose texts begin with
// BOS; it is put before ids that do not begin with it, because the gateway never adds it to the
// prompt of a completion, only a chat template does. Values are checked later, like those of any
// request; INVALID_ARGUMENT here names a field that asks for something we do not offer.
absl::StatusOr<v1::GenerateRequest> TranslateRequest(
    const ::vllm::grpc::engine::GenerateRequest& request, std::optional<int32_t> bos_id);

}  // namespace kvec::coordinator::server::vllm

#endif  // KVEC_COORDINATOR_SERVER_VLLM_REQUEST_TRANSLATION_H_
