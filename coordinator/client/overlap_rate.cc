#include "coordinator/client/overlap_rate.h"

#include <algorithm>

#include "absl/strings/str_format.h"

namespace kvec::coordinator::client {
namespace {

using Arrivals = std::vector<absl::Time>;

// Index of the stream's first counted token.
size_t FirstCounted(const Arrivals& stream, absl::Time begin) {
  return std::lower_bound(stream.begin(), stream.end(), begin) - stream.begin();
}

}  // namespace

absl::StatusOr<double> OverlapRate(const std::vector<Arrivals>& arrivals, size_t num_dropped,
                                   size_t num_counted) {
  absl::Time begin = absl::InfinitePast();
  for (size_t i = 0; i < arrivals.size(); ++i) {
    if (arrivals[i].size() <= num_dropped) {
      return absl::FailedPreconditionError(
          absl::StrFormat("stream %d: only %d tokens", i, arrivals[i].size()));
    }
    begin = std::max(begin, arrivals[i][num_dropped]);
  }
  absl::Time end = absl::InfiniteFuture();
  for (const Arrivals& stream : arrivals) {
    const size_t last = std::min(FirstCounted(stream, begin) + num_counted, stream.size() - 1);
    end = std::min(end, stream[last]);
  }
  double tokens_per_second = 0;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    const Arrivals& stream = arrivals[i];
    const size_t first = FirstCounted(stream, begin);
    const size_t past_last = std::upper_bound(stream.begin(), stream.end(), end) - stream.begin();
    if (past_last < first + 2 || stream[first] == stream[past_last - 1]) {
      return absl::FailedPreconditionError(
          absl::StrFormat("stream %d: %d tokens while all %d streams decode, at least 2 are needed",
                          i, past_last > first ? past_last - first : 0, arrivals.size()));
    }
    tokens_per_second += static_cast<double>(past_last - 1 - first) /
                         absl::ToDoubleSeconds(stream[past_last - 1] - stream[first]);
  }
  return tokens_per_second;
}

}  // namespace kvec::coordinator::client
