#ifndef KVEC_COORDINATOR_SERVER_MODEL_ALIAS_H_
#define KVEC_COORDINATOR_SERVER_MODEL_ALIAS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// The model under another name, with a cache policy for all who use it: for protocols whose
// requests name no policy. vLLM's engine protocol names not even the model, so each alias has a
// listener of its own.
struct ModelAlias {
  std::string name;    // "kvec-512"; clients see MODEL@kvec-512
  std::string listen;  // HOST:PORT
  v1::CachePolicy cache;
};

// "POLICY[-BUDGET]=HOST:PORT": "kvec-512=127.0.0.1:0". A budget is a number of tokens, or below 1 a
// share of the prompt. INVALID_ARGUMENT names what is wrong; the policy is checked when it is used.
absl::StatusOr<ModelAlias> ParseModelAlias(absl::string_view text);

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_MODEL_ALIAS_H_
