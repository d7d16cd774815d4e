#ifndef KVEC_COORDINATOR_CLIENT_TOKEN_TEXTS_H_
#define KVEC_COORDINATOR_CLIENT_TOKEN_TEXTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "coordinator/client/connection.h"

namespace kvec::coordinator::client {

// The text of each token, [token_ids]. Where tokens share a character the first has it and the
// others have none. The errors of Detokenize.
absl::StatusOr<std::vector<std::string>> TokenTexts(const Connection& connection,
                                                    absl::Span<const uint32_t> token_ids);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TOKEN_TEXTS_H_
