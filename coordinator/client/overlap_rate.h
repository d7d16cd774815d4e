#ifndef KVEC_COORDINATOR_CLIENT_OVERLAP_RATE_H_
#define KVEC_COORDINATOR_CLIENT_OVERLAP_RATE_H_

#include <cstddef>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kvec::coordinator::client {

// Tokens per second of all streams together while ALL of them decode. `arrivals`: for each stream
// the times at which its tokens arrived, rising. Each stream's first `num_dropped` tokens are not
// counted; the count ends after `num_counted` tokens of a stream, or when the first stream ends.
//
// Streams of one batch start decoding one after another, as their prompts are done, and end alike;
// counting outside the overlap would mix decode with prefill. Each stream's rate is taken between
// two of its own tokens, so that no token is cut in half at the borders.
//
// FAILED_PRECONDITION when some stream has fewer than two tokens in the overlap.
absl::StatusOr<double> OverlapRate(const std::vector<std::vector<absl::Time>>& arrivals,
                                   size_t num_dropped, size_t num_counted);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_OVERLAP_RATE_H_
